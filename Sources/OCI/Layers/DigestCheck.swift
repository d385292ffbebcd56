internal import struct Crypto.SHA256
internal import struct Crypto.SHA512
internal import MCFSCore

/// Checks that the bytes that pass are the ones that a digest stands for.
struct DigestCheck {
    private enum Hash {
        case sha256(SHA256)
        case sha512(SHA512)
    }

    private let digest: Digest
    private let size: UInt64
    private var hash: Hash
    private(set) var count: UInt64 = 0

    init(_ digest: Digest, size: UInt64) {
        self.digest = digest
        self.size = size
        switch digest.algorithm {
        case .sha256: hash = .sha256(SHA256())
        case .sha512: hash = .sha512(SHA512())
        }
    }

    mutating func update(_ bytes: [UInt8]) {
        count += UInt64(bytes.count)
        bytes.withUnsafeBytes { bytes in
            switch hash {
            case .sha256(var function):
                // One reference only, so that the function's state is not copied.
                hash = .sha256(SHA256())
                function.update(bufferPointer: bytes)
                hash = .sha256(function)
            case .sha512(var function):
                hash = .sha512(SHA512())
                function.update(bufferPointer: bytes)
                hash = .sha512(function)
            }
        }
    }

    /// Whether as many bytes came as the digest stands for.
    var isComplete: Bool { count == size }

    /// - Throws: `corrupt` where size or digest differ.
    func verify() throws(MCFSError) {
        guard count == size else {
            throw MCFSError(
                .corrupt, "layer \(digest) has \(count) bytes where its manifest says \(size); push it again")
        }
        let found =
            switch hash {
            case .sha256(let function): Digest(.sha256, function.finalize())
            case .sha512(let function): Digest(.sha512, function.finalize())
            }
        guard found == digest else {
            throw MCFSError(
                .corrupt,
                "the bytes that came for layer \(digest) have the digest \(found); try again, and if it stays so push it again"
            )
        }
    }
}
