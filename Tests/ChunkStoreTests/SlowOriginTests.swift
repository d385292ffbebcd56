import Glibc
import MCFSCore
import MCFSTestSupport
import Synchronization
import Testing

@testable import ChunkStore

@Suite("Slow origins", .timeLimit(.minutes(5)))
struct SlowOriginTests {
    private let transient = MCFSError(.originUnavailable, "no answer", isTransient: true)

    private func source(_ pages: Int, of origin: String) -> MemorySource {
        MemorySource([UInt8](repeating: 7, count: pages * 4096), pieceBytes: 4096, origin: origin)
    }

    private func content(_ source: MemorySource, _ name: String = "a") -> FileContent {
        FileContent(
            id: BlobID(origin: source.origin, name), size: UInt64(source.bytes.count), source: source, offset: 0)
    }

    /// What a prefetch says it is doing.
    private final class Phases: ProgressReporter {
        private let seen = Lock<[String]>([])
        var all: [String] { seen.withLock { $0 } }
        func report(phase: String, done: UInt64, total: UInt64?) { seen.withLock { $0.append(phase) } }
    }

    private func waitForReads(of sources: [MemorySource], atLeast count: Int) {
        let deadline = Deadline.soon
        while sources.reduce(0, { $0 + $1.reads.count }) < count, !deadline.hasPassed { sched_yield() }
    }

    @Test(
        "an origin that does not answer holds up neither reads nor prefetches of another, however much is asked of it")
    func lanes() throws {
        var fixture = CacheFixture(chunkSize: 4096)
        fixture.configuration.fetchThreads = 4
        fixture.configuration.inFlightBytesMax = 64 * 4096
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let hanging = (0..<40).map { _ in source(8, of: "hanging") }
        for source in hanging { source.close() }
        defer { for source in hanging { source.open() } }
        let isDone = Guarded(false)
        try startThread("test") {
            try? cache.prefetch(
                hanging.enumerated().map { content($1, "\($0)") }, progress: Progress(),
                isCancelled: { isDone.withLock { $0 } })
        }
        defer { isDone.update { $0 = true } }
        waitForReads(of: hanging, atLeast: 3)
        // And as many readers as there are threads.
        let readers = hanging.prefix(8).enumerated().map { cache.open(content($1, "reader \($0)")) }
        let waiters = try readers.map { try $0.start(0, 4096) }
        let answering = source(8, of: "answering")
        #expect(try cache.open(content(answering)).bytes(0, 4096).count == 4096)
        try cache.prefetch([content(answering)], progress: Progress(), isCancelled: { false })
        #expect(cache.localBytes(of: content(answering).id, size: 8 * 4096) == 8 * 4096)
        for source in hanging { source.open() }
        for waiter in waiters { #expect(throws: Never.self) { try waiter.value.get() } }
    }

    @Test("memory for what is on its way is never all of one origin's")
    func memory() throws {
        let budget = MemoryBudget(bytes: 64)
        let now = Deadline(after: .zero)
        var held: [Reservation] = []
        while let reservation = budget.reserve(8, for: "hanging", until: now) { held.append(reservation) }
        #expect(held.count == 8)
        let other = budget.reserve(8, for: "other", until: now)
        #expect(other != nil)
        #expect(budget.reserve(8, for: "other", until: now) == nil)
        #expect(budget.reserve(8, for: "third", until: now) != nil)
        held = []
        withExtendedLifetime(other) {
            // What is larger than all of it is let through where nothing else is under way.
            #expect(budget.reserve(100, for: "hanging", until: now) == nil)
        }
    }

    @Test("what is larger than the memory for it is let through when nothing else is under way")
    func largeRange() throws {
        let budget = MemoryBudget(bytes: 64)
        #expect(budget.reserve(100, for: "a", until: Deadline(after: .zero)) != nil)
        #expect(budget.reserve(60, for: "a", until: Deadline(after: .zero)) != nil)
    }

    @Test(
        "a range that would take longer than 4 s at the pace that was seen is cut",
        arguments: [
            // Bytes that came, seconds that took, bytes of the next range.
            (1 << 20, 1, 4 << 20), (1 << 20, 8, 512 << 10), (16 << 20, 1, 64 << 20), (1000, 60, nil), (1 << 20, 0, nil),
        ] as [(UInt64, Int64, UInt64?)])
    func pace(bytes: UInt64, seconds: Int64, expected: UInt64?) {
        var pace = Pace()
        #expect(pace.rangeBytesMax == .max)
        pace.learn(bytes: bytes, in: .seconds(seconds))
        #expect(pace.rangeBytesMax == expected ?? .max)
    }

    @Test(
        "a range is cut between its pieces, and one piece stays at least",
        arguments: [0, 1, 4, 5, 8, 11, 12, 20] as [UInt64])
    func cut(bytes: UInt64) throws {
        let fixture = CacheFixture(chunkSize: 4)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let content = CacheFixture.placed(MemorySource(Array("0123456789ab".utf8)))
        let group = FetchGroup()
        let jobs = cache.planner.jobs(prefetching: [content], for: group)
        group.add(jobs.count)
        let job = try #require(jobs.first)
        #expect(jobs.count == 1 && job.range == ByteRange(0, 12))
        let rest = job.split(after: bytes)
        let end = min(12, max(4, bytes / 4 * 4))
        #expect(job.range == ByteRange(0, end) && job.pieces.count == Int(end / 4))
        #expect(rest?.range == (end < 12 ? ByteRange(end, 12) : nil))
        // The group waits for both.
        for job in [job, rest].compactMap({ $0 }) { group.ended(nil, of: job.source) }
        #expect(group.wait(untilRunning: 0, for: .zero))
    }

    @Test("a prefetch tells what it waits for, and gives up after so long without a byte")
    func stall() throws {
        let fixture = CacheFixture(chunkSize: 4096, readDeadline: .milliseconds(100))
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let silent = source(4, of: "silent:80")
        silent.fail(forever: transient)
        let phases = Phases()
        let error = #expect(throws: MCFSError.self) {
            try cache.prefetch(
                [content(silent)], progress: phases, stallTimeout: .milliseconds(2500), isCancelled: { false })
        }
        #expect(error?.code == .originUnavailable)
        #expect(phases.all.contains("waiting for silent:80: no answer"))
    }

    @Test("a prefetch waits for the time that an origin names, and not where that is too late")
    func notBefore() throws {
        let fixture = CacheFixture(chunkSize: 4096)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let limited = source(1, of: "limited:80")
        var later = transient
        later.retryAfter = .milliseconds(100)
        limited.fail(.error(later, after: 0))
        try cache.prefetch([content(limited)], progress: Progress(), stallTimeout: .seconds(60), isCancelled: { false })
        #expect(limited.reads.count == 2)
        later.retryAfter = .seconds(61)
        limited.fail(.error(later, after: 0))
        let error = #expect(throws: MCFSError.self) {
            try cache.prefetch(
                [content(limited, "other")], progress: Progress(), stallTimeout: .seconds(60), isCancelled: { false })
        }
        #expect(error?.message == "no answer")
        #expect(limited.reads.count == 3)
    }

    @Test("a prefetch can be given up while it waits for what another fetches")
    func cancelledBesideAnother() throws {
        let fixture = CacheFixture(chunkSize: 4096, readDeadline: .seconds(1000))
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let slow = source(1, of: "slow:80")
        slow.close()
        defer { slow.open() }
        let reader = try cache.open(content(slow)).start(0, 4096)
        let error = #expect(throws: MCFSError.self) {
            try cache.prefetch([content(slow)], progress: Progress(), isCancelled: { true })
        }
        #expect(error?.code == .cancelled)
        slow.open()
        #expect(try reader.value.get().count == 4096)
    }

    @Test("what a cancelled prefetch has not begun is not asked for, and a reader of it gets it all the same")
    func cancelled() throws {
        var fixture = CacheFixture(chunkSize: 4096)
        fixture.configuration.fetchThreads = 2
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let sources = (0..<20).map { _ in source(1, of: "slow:80") }
        for source in sources { source.close() }
        let isCancelled = Guarded(false)
        let ended = Guarded(false)
        try startThread("test") {
            try? cache.prefetch(
                sources.enumerated().map { content($1, "\($0)") }, progress: Progress(),
                isCancelled: { isCancelled.withLock { $0 } })
            ended.update { $0 = true }
        }
        waitForReads(of: sources, atLeast: 1)
        isCancelled.update { $0 = true }
        #expect(ended.wait(until: .soon) { $0 ? true : nil } == true)
        let last = try #require(sources.indices.last { sources[$0].reads.isEmpty })
        let reader = try cache.open(content(sources[last], "\(last)")).start(0, 4096)
        for source in sources { source.open() }
        #expect(try reader.value.get().count == 4096)
        #expect(sources.filter { !$0.reads.isEmpty }.count <= 4)
    }
}
