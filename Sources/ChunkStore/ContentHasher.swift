internal import CCrypto
import MCFSCore

/// The digest that a content's identity is, piece by piece in order. Its state can be kept and gone on from.
struct ContentHasher: Sendable {
    private enum Hash {
        case sha256(SHA256_CTX)
        case git(SHA_CTX)
    }

    private var hash: Hash

    /// nil where the identity is not a digest of the content.
    init?(_ id: BlobID, size: UInt64) {
        switch id.kind {
        case .sha256: hash = .sha256(Self.sha256)
        case .git:
            var state = SHA_CTX()
            mcfs_sha1_init(&state)
            // Git hashes an object's header before its content.
            let header = Array("blob \(size)\0".utf8)
            mcfs_sha1_update(&state, header, header.count)
            hash = .git(state)
        case .origin: return nil
        }
    }

    /// SHA-256.
    init() { hash = .sha256(Self.sha256) }

    private static var sha256: SHA256_CTX {
        var state = SHA256_CTX()
        mcfs_sha256_init(&state)
        return state
    }

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        switch hash {
        case .sha256(var state):
            mcfs_sha256_update(&state, bytes.baseAddress, bytes.count)
            hash = .sha256(state)
        case .git(var state):
            mcfs_sha1_update(&state, bytes.baseAddress, bytes.count)
            hash = .git(state)
        }
    }

    consuming func digest() -> [UInt8] {
        switch hash {
        case .sha256(var state):
            var digest = [UInt8](repeating: 0, count: Int(SHA256_DIGEST_LENGTH))
            mcfs_sha256_final(&state, &digest)
            return digest
        case .git(var state):
            var digest = [UInt8](repeating: 0, count: Int(SHA_DIGEST_LENGTH))
            mcfs_sha1_final(&state, &digest)
            return digest
        }
    }

    // MARK: Kept

    /// Bytes of a state that is kept, at most.
    static let savedBytesMax = 120

    /// The state, as this machine has it in memory.
    var saved: [UInt8] {
        switch hash {
        case .sha256(let state): withUnsafeBytes(of: state) { Array($0) }
        case .git(let state): withUnsafeBytes(of: state) { Array($0) }
        }
    }

    /// Goes on from a state that was kept of a content with this identity. - Returns: whether it can be one.
    mutating func resume(_ saved: some Collection<UInt8>) -> Bool {
        let saved = Array(saved)
        switch hash {
        case .sha256(var state):
            guard Self.load(saved, &state), state.num < 64, state.md_len == UInt32(SHA256_DIGEST_LENGTH) else {
                return false
            }
            hash = .sha256(state)
        case .git(var state):
            guard Self.load(saved, &state), state.num < 64 else { return false }
            hash = .git(state)
        }
        return true
    }

    private static func load<State: BitwiseCopyable>(_ saved: [UInt8], _ state: inout State) -> Bool {
        guard saved.count >= MemoryLayout<State>.size else { return false }
        withUnsafeMutableBytes(of: &state) { $0.copyBytes(from: saved.prefix($0.count)) }
        return true
    }

    // MARK: Files

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
