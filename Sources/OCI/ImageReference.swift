package import MCFSCore

/// The name of an image, model or artifact in a registry: `HOST[:PORT]/REPO[:TAG][@DIGEST]`.
///
/// Grammar: distribution-spec "Pulling manifests"; Docker's short names are completed as Docker does.
package struct ImageReference: Hashable, Sendable {
    /// As users and credentials name it: `docker.io`, `registry.example.com:5000`, `[::1]:5000`.
    package var host: String
    package var repository: String
    /// nil where only a digest was given; informational beside a digest.
    package var tag: String?
    package var digest: Digest?

    package static let scheme = "oci://"

    /// Longest `HOST/REPO` that registries take, in bytes.
    static let nameBytesMax = 255

    /// - Parameter text: with or without `oci://`.
    /// - Throws: `usage`, with what is wrong and an example.
    package init(_ text: String) throws(MCFSError) {
        func usage(_ why: String) -> MCFSError {
            MCFSError(.usage, "'\(text)' is no image reference: \(why); write oci://registry.example.com/team/cache:v1")
        }
        var rest = Substring(text.hasPrefix(Self.scheme) ? String(text.dropFirst(Self.scheme.count)) : text)

        if let at = rest.firstIndex(of: "@") {
            let written = rest[rest.index(after: at)...]
            guard let digest = Digest(written) else {
                throw usage("'\(written)' is no digest (sha256: and 64 hex digits)")
            }
            self.digest = digest
            rest = rest[..<at]
        }
        let nameStart = rest.lastIndex(of: "/").map { rest.index(after: $0) } ?? rest.startIndex
        if let colon = rest[nameStart...].firstIndex(of: ":"), !rest[nameStart...].hasPrefix("[") {
            let written = String(rest[rest.index(after: colon)...])
            guard Self.isTag(written) else { throw usage("'\(written)' is no tag") }
            tag = written
            rest = rest[..<colon]
        }
        if tag == nil, digest == nil { tag = "latest" }

        let parts = rest.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        if parts.count == 1 {
            guard !Self.looksLikeHost(parts[0]) else { throw usage("it names a registry but no repository") }
            host = "docker.io"
            repository = String(rest)
        } else if Self.looksLikeHost(parts[0]) {
            host = String(parts[0]).lowercased()
            repository = String(parts[1])
        } else {
            host = "docker.io"
            repository = String(rest)
        }
        if host == "index.docker.io" || host == "registry-1.docker.io" { host = "docker.io" }
        // Official images of Docker Hub and of Ollama's registry live in a namespace that nobody types.
        if host == "docker.io" || host == "registry.ollama.ai", !repository.contains("/"), !repository.isEmpty {
            repository = "library/" + repository
        }

        guard Self.isHost(host) else { throw usage("'\(host)' is no host name") }
        guard !repository.isEmpty else { throw usage("it names no repository") }
        // The Hugging Face Hub speaks the registry protocol with the names of its repositories, which have capitals.
        let takesCapitals = host == "hf.co" || host == "huggingface.co"
        guard Self.isRepository(takesCapitals ? repository.lowercased() : repository) else {
            throw usage(
                "'\(repository)' is no repository name (lower-case letters, digits, single '.', '_', '-' between them, '/')"
            )
        }
        guard host.utf8.count + 1 + repository.utf8.count <= Self.nameBytesMax else {
            throw usage("the name is longer than \(Self.nameBytesMax) bytes")
        }
    }

    /// `HOST/REPO`, for messages.
    package var name: String { "\(host)/\(repository)" }

    /// What manifests are asked by: the digest where there is one.
    package var manifestReference: String { digest?.description ?? tag ?? "latest" }

    /// The immutable form, which can be typed back.
    package func resolved(to digest: Digest) -> String { "\(Self.scheme)\(name)@\(digest)" }

    private static func looksLikeHost(_ component: some StringProtocol) -> Bool {
        component.contains(".") || component.contains(":") || component == "localhost"
    }

    /// A DNS name or an address, with an optional port.
    static func isHost(_ host: String) -> Bool {
        var name = Substring(host)
        if host.hasPrefix("[") {
            guard let end = host.firstIndex(of: "]") else { return false }
            let address = host[host.index(after: host.startIndex)..<end]
            let rest = host[host.index(after: end)...]
            guard !address.isEmpty, address.allSatisfy({ $0.isASCII && ($0.isHexDigit || $0 == ":" || $0 == ".") })
            else {
                return false
            }
            return rest.isEmpty || (rest.hasPrefix(":") && isPort(rest.dropFirst()))
        }
        if let colon = name.firstIndex(of: ":") {
            guard isPort(name[name.index(after: colon)...]) else { return false }
            name = name[..<colon]
        }
        return name.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
            let bytes = Array(label.utf8)
            guard let first = bytes.first, let last = bytes.last, isAlphanumeric(first), isAlphanumeric(last) else {
                return false
            }
            return bytes.allSatisfy { isAlphanumeric($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_") }
        }
    }

    private static func isPort(_ text: some StringProtocol) -> Bool {
        text.allSatisfy { $0.isASCII && $0.isNumber } && (UInt16(text).map { $0 > 0 } ?? false)
    }

    static func isTag(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        guard let first = bytes.first, bytes.count <= 128, first != UInt8(ascii: "."), first != UInt8(ascii: "-") else {
            return false
        }
        return bytes.allSatisfy {
            isAlphanumeric($0) || isUpper($0) || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: ".")
                || $0 == UInt8(ascii: "-")
        }
    }

    static func isRepository(_ text: String) -> Bool {
        text.split(separator: "/", omittingEmptySubsequences: false).allSatisfy {
            isRepositoryComponent(Array($0.utf8))
        }
    }

    /// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
    private static func isRepositoryComponent(_ bytes: [UInt8]) -> Bool {
        guard let first = bytes.first, let last = bytes.last, isAlphanumeric(first), isAlphanumeric(last) else {
            return false
        }
        var index = 0
        while index < bytes.count {
            if isAlphanumeric(bytes[index]) {
                index += 1
                continue
            }
            let start = index
            while index < bytes.count, !isAlphanumeric(bytes[index]) { index += 1 }
            switch String(decoding: bytes[start..<index], as: UTF8.self) {
            case ".", "_", "__": continue
            case let separator where separator.allSatisfy { $0 == "-" }: continue
            default: return false
            }
        }
        return true
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }

    private static func isUpper(_ byte: UInt8) -> Bool { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) }
}
