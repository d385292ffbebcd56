internal import Crypto
internal import MCFSCore

/// Hands one file of a layer to the cache as its bytes pass, and finds its digest.
///
/// A cache that refuses the file leaves it not local. Whatever it throws after it took the file ends the index: bytes
/// whose digest is not known must not become an entry.
struct MemberWriter {
    private enum State {
        case given(any ContentWriter)
        case refused(SHA256)
    }

    private var state: State

    init(_ content: any ContentSink, size: UInt64) throws(MCFSError) {
        do {
            state = .given(try content.beginContent(id: nil, size: size))
        } catch {
            if error.code == .cancelled { throw error }
            state = .refused(SHA256())
        }
    }

    mutating func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        switch state {
        case .given(let writer): try writer.write(bytes)
        case .refused(var hash):
            hash.update(bufferPointer: bytes)
            state = .refused(hash)
        }
    }

    /// The file's identity by its content.
    consuming func commit() throws(MCFSError) -> BlobID {
        switch state {
        case .given(let writer): return try writer.commit()
        case .refused(let hash):
            guard let id = BlobID(.sha256, Array(hash.finalize())) else {
                throw MCFSError(.failed, "a SHA-256 of another length was computed")
            }
            return id
        }
    }

    /// Hands over a file that is in memory as a whole, under an identity that is known. It is fetched when it is read
    /// where the cache does not take it.
    ///
    /// - Throws: `cancelled` alone.
    static func store(_ bytes: ArraySlice<UInt8>, as id: BlobID, in content: any ContentSink) throws(MCFSError) {
        do {
            let writer = try content.beginContent(id: id, size: UInt64(bytes.count))
            try bytes.withUnsafeBufferPointer { (buffer) throws(MCFSError) in
                try writer.write(UnsafeRawBufferPointer(buffer))
            }
            _ = try writer.commit()
        } catch {
            if error.code == .cancelled { throw error }
        }
    }
}
