import Glibc
package import MCFSCore

/// A whole content that passes by and is written to a file of its own, then takes its place.
///
/// Small ones stay in memory until they are whole. What cannot be kept (no room, a failing disk) is hashed all the same:
/// the identity of a member must not depend on the state of a cache.
final class IngestedContent: ContentWriter {
    /// Up to this size a content is held in memory, in bytes.
    static let memoryMax: UInt64 = 1 << 20
    /// How long to wait for room on the disk: what passes by can be fetched again.
    private static let roomDeadline = Duration.seconds(10)

    private let cache: ChunkCache
    private let announced: BlobID?
    private let size: UInt64
    private var written: UInt64 = 0
    /// nil where there is nothing to find out.
    private var hasher: ContentHasher?
    private var memory: [UInt8] = []
    private var file: (descriptor: OwnedDescriptor, name: String)?
    /// What it will take on disk; nil: there is no room, and it is only hashed.
    private let room: Reservation?
    private var isKept = true

    init(_ cache: ChunkCache, id: BlobID?, size: UInt64) {
        self.cache = cache
        self.size = size
        announced = id
        hasher = id.map { ContentHasher($0, size: size) } ?? ContentHasher()
        if size <= Self.memoryMax { memory.reserveCapacity(Int(size)) }
        room = size == 0 ? nil : cache.space.reserve(Space.diskBytes(size), until: Deadline(after: Self.roomDeadline))
        isKept = room != nil
    }

    deinit { if let file { cache.directory.remove(file.name) } }

    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        guard UInt64(bytes.count) <= size - written else {
            throw MCFSError(.corrupt, "more than the announced \(size) bytes of content came")
        }
        hasher?.update(bytes)
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
                let name = cache.nextTemporaryName()
                file = (try cache.directory.create(name), name)
            }
            try file?.descriptor.write(bytes, at: written)
        } catch {
            cache.note(MCFSError(localIO: "write to the cache directory \(cache.directory.path)", error))
            isKept = false
        }
    }

    func commit() throws(MCFSError) -> BlobID {
        guard written == size else {
            throw MCFSError(.corrupt, "\(written) of the announced \(size) bytes of content came")
        }
        let digest = hasher.take()?.digest()
        guard let id = announced ?? digest.flatMap({ BlobID(.sha256, $0) }) else {
            throw MCFSError(.failed, "a content was committed twice")
        }
        if announced != nil, let digest, digest != id.bytes {
            throw MCFSError(.corrupt, "the bytes that came for \(id) do not match it")
        }
        if size > 0, isKept { place(id) }
        return id
    }

    private func place(_ id: BlobID) {
        let use = cache.table.use(ContentKey(id, size: size))
        if use.blob.isComplete { return }
        let whole: Blob.Whole
        if let (descriptor, name) = file.take() {
            whole = .file(descriptor, name: name)
        } else {
            let buffer = MemoryBuffer(count: memory.count)
            buffer.bytes.copyBytes(from: memory)
            whole = .bytes(buffer)
        }
        use.blob.adoptAndWait(whole, room)
    }
}

extension ChunkCache {
    /// See `ContentSink`.
    package func beginContent(id: BlobID?, size: UInt64) throws(MCFSError) -> any ContentWriter {
        IngestedContent(self, id: id, size: size)
    }
}
