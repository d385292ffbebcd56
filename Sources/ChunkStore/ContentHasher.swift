internal import Crypto
import MCFSCore

/// Checks content against the digest in its identity, piece by piece in order.
struct ContentHasher {
    private enum Hash {
        case sha256(SHA256)
        case git(Insecure.SHA1)
    }

    private var hash: Hash

    /// nil where the identity is not a digest of the content.
    init?(_ id: BlobID, size: UInt64) {
        switch id.kind {
        case .sha256: hash = .sha256(SHA256())
        case .git:
            // Git hashes an object's header before its content.
            var sha1 = Insecure.SHA1()
            sha1.update(data: Array("blob \(size)\0".utf8))
            hash = .git(sha1)
        case .origin: return nil
        }
    }

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        switch hash {
        case .sha256(var sha256):
            // Let go of the enum's copy: a hash that is shared would be copied on update.
            hash = .sha256(SHA256())
            sha256.update(bufferPointer: bytes)
            hash = .sha256(sha256)
        case .git(var sha1):
            hash = .git(Insecure.SHA1())
            sha1.update(bufferPointer: bytes)
            hash = .git(sha1)
        }
    }

    consuming func digest() -> [UInt8] {
        switch hash {
        case .sha256(let sha256): Array(sha256.finalize())
        case .git(let sha1): Array(sha1.finalize())
        }
    }

    /// Hashes a whole open file and compares. true where the identity is no digest.
    static func matches(_ id: BlobID, _ file: OwnedDescriptor, size: UInt64) throws(Errno) -> Bool {
        guard var hasher = ContentHasher(id, size: size) else { return true }
        try hasher.update(file, ByteRange(0, size))
        return hasher.digest() == id.bytes
    }

    /// Hashes a range of an open file. A file that ends too early hashes to something else.
    mutating func update(_ file: OwnedDescriptor, _ range: ByteRange) throws(Errno) {
        let buffer = MemoryBuffer(count: Int(min(range.count, 1 << 20)))
        var position = range.lowerBound
        while position < range.upperBound {
            let part = UnsafeMutableRawBufferPointer(
                rebasing: buffer.bytes[..<Int(min(range.upperBound - position, UInt64(buffer.count)))])
            let count = try file.read(into: part, at: position)
            if count == 0 { return }
            update(UnsafeRawBufferPointer(rebasing: part[..<count]))
            position += UInt64(count)
        }
    }
}
