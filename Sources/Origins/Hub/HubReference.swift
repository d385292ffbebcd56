internal import MCFSCore

/// A repository of the Hugging Face Hub.
struct HubRepository: Hashable, Sendable {
    enum Kind: String, Sendable, CaseIterable {
        case model, dataset, space

        /// What stands before the name in references and in all URLs but those of the API; empty for models.
        var prefix: String { self == .model ? "" : rawValue + "s/" }
    }

    var kind: Kind
    /// `ORG/NAME`.
    var id: String

    /// Below the endpoint: the repository's page, and what `resolve` URLs begin with.
    var path: String { "/" + kind.prefix + id }
    /// Below the endpoint.
    var apiPath: String { "/api/\(kind.rawValue)s/\(id)" }
    var description: String { "hf://" + kind.prefix + id }
}

/// `hf://[datasets/|spaces/]ORG/NAME[@REVISION][/SUBDIR]`.
///
/// A revision that holds slashes is written with `%2F`; `refs/pr/N` and `refs/convert/NAME` may also stand as they are.
struct HubReference: Hashable, Sendable {
    /// Longest name of a repository or its owner, in bytes.
    static let nameBytesMax = 96
    static let defaultRevision = "main"

    var repository: HubRepository
    /// Branch, tag, `refs/…` or commit.
    var revision: String
    var subdirectory: TreePath

    /// - Throws: `usage` where `text` is no such reference, with an example of one.
    init(_ text: String) throws(MCFSError) {
        func malformed(_ why: String) -> MCFSError {
            MCFSError(
                .usage, "'\(text)' \(why); write it as in hf://openai-community/gpt2@main or hf://datasets/ORG/NAME")
        }
        guard text.hasPrefix("hf://") else { throw malformed("is no reference to the Hugging Face Hub") }
        var parts = text.dropFirst(5).split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        var kind = HubRepository.Kind.model
        if let named = HubRepository.Kind.allCases.first(where: { !$0.prefix.isEmpty && $0.prefix == parts[0] + "/" }) {
            kind = named
            parts.removeFirst()
        }
        guard parts.count >= 2 else { throw malformed("does not name a repository as ORG/NAME") }
        let organisation = parts[0]
        let named = parts[1].split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        for name in [organisation, named[0]] {
            guard Self.isName(name) else { throw malformed("has '\(name)' where a name of the Hub is expected") }
        }
        repository = HubRepository(kind: kind, id: organisation + "/" + named[0])
        parts.removeFirst(2)
        revision = Self.defaultRevision
        if named.count == 2 {
            var written = named[1]
            if written == "refs", parts.count >= 2, ["pr", "convert"].contains(parts[0]) {
                written += "/" + parts[0] + "/" + parts[1]
                parts.removeFirst(2)
            }
            guard let decoded = Self.percentDecoded(written), Self.isRevision(decoded) else {
                throw malformed("has no usable revision after '@'")
            }
            revision = decoded
        }
        do {
            subdirectory = try TreePath(parts.joined(separator: "/"))
        } catch {
            throw malformed("names a folder that cannot be: \(error.message)")
        }
        guard subdirectory.bytes.allSatisfy({ $0 >= 0x20 }) else { throw malformed("holds a control character") }
    }

    /// The reference to `commit` of the same repository and folder.
    func pinned(to commit: String) -> String {
        let base = "\(repository.description)@\(commit)"
        return subdirectory.isRoot ? base : base + "/" + subdirectory.description
    }

    var isPinned: Bool { Self.isCommit(revision) }

    /// 40 lower-case hex digits.
    static func isCommit(_ text: String) -> Bool { [UInt8](hex: text)?.count == 20 }

    private static func isName(_ name: String) -> Bool {
        let bytes = Array(name.utf8)
        guard let first = bytes.first, let last = bytes.last, bytes.count <= nameBytesMax else { return false }
        let ends = [UInt8(ascii: "."), UInt8(ascii: "-")]
        return bytes.allSatisfy { isAlphanumeric($0) || $0 == UInt8(ascii: "_") || ends.contains($0) }
            && !ends.contains(first) && !ends.contains(last)
            && name.firstRange(of: "--") == nil && name.firstRange(of: "..") == nil
    }

    /// Git's rules as far as they keep a URL unambiguous.
    private static func isRevision(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 255 && text.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7f }
            && !text.hasPrefix("/") && !text.hasSuffix("/") && text.firstRange(of: "..") == nil
            && text.firstRange(of: "//") == nil && text != "."
    }

    private static func percentDecoded(_ text: String) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard rest.count >= 2,
                let decoded = [UInt8](hex: String(decoding: rest.prefix(2), as: UTF8.self).lowercased())
            else { return nil }
            bytes += decoded
            rest.removeFirst(2)
        }
        return String(validating: bytes, as: UTF8.self)
    }
}

/// ASCII letters and digits.
private func isAlphanumeric(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "a")...UInt8(ascii: "z"):
        true
    default: false
    }
}

extension HubReference {
    /// Percent-encodes all but unreserved characters, `/` too unless it `keepsSlashes`.
    static func percentEncoded(_ text: String, keepsSlashes: Bool) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            if isAlphanumeric(byte) || "-._~".utf8.contains(byte) || (keepsSlashes && byte == UInt8(ascii: "/")) {
                bytes.append(byte)
            } else {
                bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
