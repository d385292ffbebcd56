import Crypto

/// The identity of a presented file's content. Two files with the same identity have the same bytes, whatever origin
/// they come from, and are stored once.
package struct BlobID: Hashable, Sendable, CustomStringConvertible {
    package enum Kind: UInt8, Sendable, CaseIterable {
        /// SHA-256 of the content: the bytes can be checked.
        case sha256 = 1
        /// Git's SHA-1 of `blob SIZE NUL content`: the bytes can be checked.
        case git = 2
        /// SHA-256 over where and which version the content is (origin, name, version): the bytes cannot be checked.
        case origin = 3

        /// The prefix of the text form.
        var prefix: String {
            switch self {
            case .sha256: "sha256"
            case .git: "git"
            case .origin: "origin"
            }
        }

        var byteCount: Int { self == .git ? 20 : 32 }
    }

    package let kind: Kind
    private let words: (UInt64, UInt64, UInt64, UInt64)

    /// nil where the number of bytes is not the kind's.
    package init?(_ kind: Kind, _ bytes: [UInt8]) {
        guard bytes.count == kind.byteCount else { return nil }
        self.kind = kind
        func word(_ index: Int) -> UInt64 {
            var value: UInt64 = 0
            for offset in index * 8..<index * 8 + 8 {
                value = value << 8 | UInt64(offset < bytes.count ? bytes[offset] : 0)
            }
            return value
        }
        words = (word(0), word(1), word(2), word(3))
    }

    /// From the first bytes of 32, without allocation: how trees keep identities. nil for fewer than 32.
    package init?(_ kind: Kind, padded bytes: UnsafeRawBufferPointer) {
        guard bytes.count == 32 else { return nil }
        func word(_ index: Int) -> UInt64 {
            UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
        }
        self.kind = kind
        words = (word(0), word(1), kind == .git ? word(2) & 0xffff_ffff_0000_0000 : word(2), kind == .git ? 0 : word(3))
    }

    /// Identity of content whose SHA-256 is known.
    package init?(_ digest: Digest) {
        guard digest.algorithm == .sha256 else { return nil }
        self.init(.sha256, digest.bytes)
    }

    /// Identity of content known only by its place and version. The parts must fix the bytes for ever: a layer digest
    /// and an offset, a bucket, key, ETag and size.
    package init(origin parts: String...) {
        var hash = SHA256()
        for part in parts {
            // Length first: ("ab", "c") and ("a", "bc") must differ.
            hash.update(data: Array("\(part.utf8.count):\(part)".utf8))
        }
        self.init(.origin, Array(hash.finalize()))!
    }

    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "-", maxSplits: 1)
        guard parts.count == 2, let kind = Kind.allCases.first(where: { $0.prefix == parts[0] }),
            let bytes = [UInt8](hex: parts[1])
        else { return nil }
        self.init(kind, bytes)
    }

    /// Whether a content of so many bytes can have this identity: no bytes have one digest of each kind.
    package func fits(size: UInt64) -> Bool { size > 0 || kind == .origin || Self.ofNothing.contains(self) }

    private static let ofNothing = [
        BlobID(.sha256, Array(SHA256.hash(data: []))),
        BlobID(.git, Array(Insecure.SHA1.hash(data: Array("blob 0\0".utf8)))),
    ]

    package var bytes: [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(32)
        for word in [words.0, words.1, words.2, words.3] {
            for shift in stride(from: UInt64(56), through: 0, by: -8) {
                result.append(UInt8(truncatingIfNeeded: word >> shift))
            }
        }
        return Array(result.prefix(kind.byteCount))
    }

    /// `KIND-HEX`, as files of the cache are named.
    package var description: String { "\(kind.prefix)-\(bytes.hex)" }

    package static func == (a: BlobID, b: BlobID) -> Bool { a.kind == b.kind && a.words == b.words }

    package func hash(into hasher: inout Hasher) {
        // All of them: identities are claimed by origins, which could make many that begin alike.
        hasher.combine(words.0)
        hasher.combine(words.1)
        hasher.combine(words.2)
        hasher.combine(words.3)
    }
}
