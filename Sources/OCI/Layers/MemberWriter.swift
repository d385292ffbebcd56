internal import Crypto
internal import MCFSCore

/// Hands one file of a layer to the cache as its bytes pass. A cache that fails does not: the file is then not local.
struct MemberWriter {
    private var writer: (any ContentWriter)?
    /// Finds the identity where the cache does not.
    private var hash: SHA256?

    init(_ content: any ContentSink, size: UInt64) {
        do {
            writer = try content.beginContent(id: nil, size: size)
        } catch {
            hash = SHA256()
        }
    }

    mutating func write(_ bytes: UnsafeRawBufferPointer) {
        do {
            try writer?.write(bytes)
        } catch {
            writer = nil
        }
        hash?.update(bufferPointer: bytes)
    }

    /// The file's identity by its content; nil where it is not known.
    consuming func commit() -> BlobID? {
        if let hash { return BlobID(.sha256, Array(hash.finalize())) }
        do {
            return try writer?.commit()
        } catch {
            return nil
        }
    }

    /// Hands over a file that is in memory as a whole, under an identity that is known.
    static func store(_ bytes: ArraySlice<UInt8>, as id: BlobID, in content: any ContentSink) {
        do {
            let writer = try content.beginContent(id: id, size: UInt64(bytes.count))
            try bytes.withUnsafeBufferPointer { (buffer) throws(MCFSError) in
                try writer.write(UnsafeRawBufferPointer(buffer))
            }
            _ = try writer.commit()
        } catch {
            // It is fetched when it is read.
        }
    }
}
