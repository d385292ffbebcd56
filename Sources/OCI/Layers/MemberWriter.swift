internal import Crypto
internal import MCFSCore

/// Hands one file of a layer to the cache as its bytes pass, and finds its digest.
///
/// A cache that refuses the file leaves it not local. Whatever it throws after it took the file ends the index: bytes
/// whose digest is not known must not become an entry.
struct MemberWriter {
    private enum State {
        case given(any ContentWriter)
        case hashed(SHA256)
    }

    private var state: State

    /// - Parameter content: nil: the digest is all that is wanted.
    init(_ content: (any ContentSink)?, size: UInt64) throws(MCFSError) {
        do {
            let writer = try content?.beginContent(id: nil, size: size)
            state = writer.map { .given($0) } ?? .hashed(SHA256())
        } catch {
            if error.code == .cancelled { throw error }
            state = .hashed(SHA256())
        }
    }

    mutating func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        switch state {
        case .given(let writer): try writer.write(bytes)
        case .hashed(var hash):
            hash.update(bufferPointer: bytes)
            state = .hashed(hash)
        }
    }

    /// The file's identity by its content.
    consuming func commit() throws(MCFSError) -> BlobID {
        switch state {
        case .given(let writer): return try writer.commit()
        case .hashed(let hash):
            guard let id = BlobID(.sha256, Array(hash.finalize())) else {
                throw MCFSError(.failed, "a SHA-256 of another length was computed")
            }
            return id
        }
    }

    /// Hands over a file that is in memory as a whole.
    ///
    /// - Parameter content: nil: the digest is all that is wanted.
    /// - Returns: its identity by its content.
    static func store(_ bytes: ArraySlice<UInt8>, in content: (any ContentSink)?) throws(MCFSError) -> BlobID {
        var writer = try MemberWriter(content, size: UInt64(bytes.count))
        try bytes.withUnsafeBufferPointer { (buffer) throws(MCFSError) in
            try writer.write(UnsafeRawBufferPointer(buffer))
        }
        return try writer.commit()
    }
}
