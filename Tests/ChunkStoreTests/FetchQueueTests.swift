import Glibc
import MCFSCore
import Testing

@testable import ChunkStore

/// Answers with zeros after a while, and counts who asks at once.
private final class CountingSource: ByteSource {
    struct Count {
        var now = 0
        var most = 0
    }

    let name = "counting"
    let hasRandomAccess = true
    let isLocal = false
    let retryCount: UInt64 = 0
    let count = Guarded(Count())
    private let microsecondsPerMebibyte: UInt64

    init(microsecondsPerMebibyte: UInt64) { self.microsecondsPerMebibyte = microsecondsPerMebibyte }

    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        count.withLock { count in
            count.now += 1
            count.most = max(count.most, count.now)
        }
        defer { count.withLock { $0.now -= 1 } }
        usleep(UInt32(range.count * microsecondsPerMebibyte >> 20))
        let zeros = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(range.count), alignment: 4096)
        defer { zeros.deallocate() }
        zeros.initializeMemory(as: UInt8.self, repeating: 0)
        try sink.write(UnsafeRawBufferPointer(zeros))
    }
}

@Suite("How many connections a source gets")
struct FetchQueueTests {
    private func mostAtOnce(microsecondsPerMebibyte: UInt64, chunkSize: UInt64) throws -> Int {
        let source = CountingSource(microsecondsPerMebibyte: microsecondsPerMebibyte)
        var fixture = CacheFixture(chunkSize: chunkSize)
        fixture.configuration.fetchThreads = 16
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let content = FileContent(
            id: BlobID(origin: "test", "file"), size: 64 * chunkSize, source: source, offset: 0)
        try cache.prefetch([content], progress: Progress(), isCancelled: { false })
        return source.count.withLock { $0.most }
    }

    @Test("ahead of readers, few where each is fast")
    func fast() throws {
        // Ranges that are too short to tell how fast the source is.
        #expect(try mostAtOnce(microsecondsPerMebibyte: 0, chunkSize: 4096) <= FetchQueue.fastConnectionsMax)
    }

    @Test("all where one is slow")
    func slow() throws {
        // 50 MB/s.
        #expect(try mostAtOnce(microsecondsPerMebibyte: 20_000, chunkSize: 1 << 20) > FetchQueue.fastConnectionsMax)
    }
}
