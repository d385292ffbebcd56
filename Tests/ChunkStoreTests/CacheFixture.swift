import ChunkStore
import Glibc
import Logging
import MCFSCore
import MCFSTestSupport

/// Waits for one read on the test's thread.
final class TestWaiter: ReadWaiter {
    private let result = Guarded(Result<[UInt8], MCFSError>?.none)

    func complete(_ result: consuming Result<FileRegion, MCFSError>) {
        let bytes: Result<[UInt8], MCFSError>
        switch consume result {
        case .success(let region): bytes = .success(region.copy())
        case .failure(let error): bytes = .failure(error)
        }
        self.result.update { $0 = bytes }
    }

    var value: Result<[UInt8], MCFSError> {
        result.wait(until: Deadline(after: .seconds(20))) { $0 }
            ?? .failure(MCFSError(.failed, "the waiter was never completed"))
    }
}

extension FileRegion {
    func copy() -> [UInt8] {
        switch storage {
        case .memory(let bytes): return Array(bytes)
        case .file(let descriptor, let offset):
            var bytes = [UInt8](repeating: 0, count: count)
            let got = pread(descriptor, &bytes, count, off_t(offset))
            return Array(bytes.prefix(max(got, 0)))
        }
    }
}

extension CachedFile {
    /// Reads and waits.
    func bytes(_ low: UInt64, _ high: UInt64) throws -> [UInt8] { try start(low, high).value.get() }

    /// Starts a read; its waiter has the result, also where it was a hit.
    func start(_ low: UInt64, _ high: UInt64) throws -> TestWaiter {
        let waiter = TestWaiter()
        switch try read(ByteRange(low, high), makeWaiter: { waiter }) {
        case .region(let region): waiter.complete(.success(region))
        case .pending: break
        }
        return waiter
    }

    var all: [UInt8] {
        get throws { try bytes(0, content.size) }
    }
}

final class Progress: ProgressReporter {
    func report(phase: String, done: UInt64, total: UInt64?) {}
}

/// A cache with tiny chunks in a folder of its own.
struct CacheFixture {
    let directory = TemporaryDirectory()
    var configuration = CacheConfiguration()

    init(chunkSize: UInt64 = 4, bytesMax: UInt64 = 1 << 30, readDeadline: Duration = .seconds(10)) {
        configuration.chunkSize = chunkSize
        configuration.bytesMax = bytesMax
        configuration.readDeadline = readDeadline
        configuration.fetchThreads = 4
    }

    func open() throws -> ChunkCache {
        try ChunkCache(
            directory: directory.path, configuration: configuration,
            logger: Logger(label: "cache", factory: { _ in SwiftLogNoOpLogHandler() }))
    }

    /// Closes the cache; the folder lives until then.
    func close(_ cache: ChunkCache) { cache.shutDown() }

    /// A file of its own source whose identity is the digest of its bytes.
    static func digested(_ source: MemorySource) -> FileContent {
        FileContent(
            id: BlobID(Digest.sha256(of: source.bytes))!, size: UInt64(source.bytes.count), source: source, offset: 0)
    }

    /// The same, known only by its place.
    static func placed(_ source: MemorySource, _ name: String = "a") -> FileContent {
        FileContent(id: BlobID(origin: "test", name), size: UInt64(source.bytes.count), source: source, offset: 0)
    }
}

/// Files that lie in one source.
final class TestLayout: SourceLayout {
    let contents: [Content]
    init(_ contents: [Content]) { self.contents = contents }

    func contents(overlapping range: ByteRange) -> [Content] {
        contents.filter { ByteRange(offset: $0.offset, count: $0.size).overlaps(range) }
    }
}
