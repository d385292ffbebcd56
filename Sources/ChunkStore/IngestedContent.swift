import Glibc
internal import Crypto
package import MCFSCore

/// A whole content that passes by and is written to a file of its own, then takes its place.
///
/// Small ones stay in memory until they are whole. What cannot be kept (no room, a failing disk) is hashed all the same:
/// the identity of a member must not depend on the state of a cache.
final class IngestedContent: ContentWriter {
    /// Up to this size a content is held in memory, in bytes.
    static let memoryMax: UInt64 = 1 << 20

    private let cache: ChunkCache
    private let announced: BlobID?
    private let size: UInt64
    private var written: UInt64 = 0
    private var sha256: SHA256?
    private var checker: ContentHasher?
    private var memory: [UInt8] = []
    private var file: (descriptor: OwnedDescriptor, name: String)?
    private var isKept = true

    init(_ cache: ChunkCache, id: BlobID?, size: UInt64) {
        self.cache = cache
        self.size = size
        announced = id
        if let id {
            checker = ContentHasher(id, size: size)
        } else {
            sha256 = SHA256()
        }
        if size <= Self.memoryMax { memory.reserveCapacity(Int(size)) }
    }

    deinit { if let file { cache.directory.remove(file.name) } }

    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        guard UInt64(bytes.count) <= size - written else {
            throw MCFSError(.corrupt, "more than the announced \(size) bytes of content came")
        }
        sha256?.update(bufferPointer: bytes)
        checker?.update(bytes)
        if size <= Self.memoryMax {
            memory.append(contentsOf: bytes)
        } else if isKept {
            keep(bytes)
        }
        written += UInt64(bytes.count)
    }

    private func keep(_ bytes: UnsafeRawBufferPointer) {
        do {
            if file == nil {
                let name = "tmp/\(cache.nextTemporaryNumber())"
                file = (try cache.directory.open(name, O_RDWR | O_CREAT | O_EXCL), name)
            }
            try file?.descriptor.write(bytes, at: written)
        } catch {
            isKept = false
        }
    }

    func commit() throws(MCFSError) -> BlobID {
        guard written == size else {
            throw MCFSError(.corrupt, "\(written) of the announced \(size) bytes of content came")
        }
        let id: BlobID
        if let announced {
            guard checker.map({ $0.digest() == announced.bytes }) ?? true else {
                throw MCFSError(.corrupt, "the bytes that came for \(announced) do not match it")
            }
            id = announced
        } else {
            let digest = sha256.map { Array($0.finalize()) } ?? []
            guard let computed = BlobID(.sha256, digest) else {
                throw MCFSError(.failed, "a content was committed twice")
            }
            id = computed
        }
        sha256 = nil
        checker = nil
        if size > 0, isKept { place(id) }
        return id
    }

    private func place(_ id: BlobID) {
        if cache.localBytes(of: id, size: size) == size { return }
        let use = cache.table.use(id, size: size)
        if use.blob.isComplete { return }
        // What a partial file of it holds is counted already, and goes.
        let isBegun = cache.localBytes(of: id, size: size) > 0
        if isBegun { _ = cache.evict([id]) }
        guard cache.reserve(id, size) else { return }
        do {
            if file == nil {
                let name = "tmp/\(cache.nextTemporaryNumber())"
                let descriptor = try cache.directory.open(name, O_RDWR | O_CREAT | O_EXCL)
                file = (descriptor, name)
                let result = memory.withUnsafeBytes { bytes in
                    Result { () throws(Errno) in try descriptor.write(bytes, at: 0) }
                }
                try result.get()
            }
            guard let (descriptor, name) = file else { return }
            try cache.directory.rename(name, CacheDirectory.complete(id))
            file = nil
            use.blob.answer(use.blob.adopt(descriptor))
            cache.noteWrite()
        } catch {
            cache.index.unreserve(id, size)
        }
    }
}

extension ChunkCache {
    /// See `ContentSink`.
    package func beginContent(id: BlobID?, size: UInt64) throws(MCFSError) -> any ContentWriter {
        IngestedContent(self, id: id, size: size)
    }
}
