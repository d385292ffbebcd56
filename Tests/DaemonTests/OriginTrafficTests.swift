import ControlAPI
import MCFSCore
import MCFSTestSupport
import Synchronization
import Testing

@testable import Daemon

@Suite struct OriginTrafficTests {
    /// Says how often it tried again and since when it waits, and runs `body` in its reads.
    private final class StubbornSource: ByteSource {
        let name: String
        let origin: String
        let hasRandomAccess = true
        let retries = Lock<UInt64>(0)
        private let waits: SourceSilence?
        private let body: @Sendable () throws(MCFSError) -> Void

        init(
            _ origin: String = "origin:80", waits: SourceSilence? = nil,
            _ body: @escaping @Sendable () throws(MCFSError) -> Void
        ) {
            name = "\(origin)/file"
            self.origin = origin
            self.waits = waits
            self.body = body
        }

        var retryCount: UInt64 { retries.withLock { $0 } }
        var silence: SourceSilence? { waits }

        func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
            retries.withLock { $0 += 3 }
            try body()
        }
    }

    private func read(_ source: any ByteSource) throws {
        try source.read(ByteRange(0, 0), deadline: .soon, into: CollectingSink())
    }

    private static let start = ContinuousClock.now
    private static let reset = MCFSError(.originUnavailable, "reset", isTransient: true)

    @Test(
        "an origin that does not answer is the problem while it is waited for, and none once a request got through",
        arguments: [
            // Seconds of silence, requests, what became of the last one, the problem.
            (2, 1, nil, nil),
            (12, 1, nil, "origin:80 has not answered for 12 s, 1 request so far; origin:80/file is waited for"),
            (
                2, 4, OriginTrafficTests.reset,
                "origin:80 has not answered for 2 s, 4 requests so far; origin:80/file is waited for: reset"
            ),
        ] as [(Int64, Int, MCFSError?, String?)])
    func waiting(seconds: Int64, tries: Int, error: MCFSError?, problem: String?) throws {
        let traffic = OriginTraffic { Self.start + .seconds(seconds) }
        let seen = Lock<([String], UInt64)>(([], 0))
        let source = StubbornSource(waits: SourceSilence(since: Self.start, tries: tries, error: error)) {
            seen.withLock { $0 = (traffic.problems, traffic.counters.retries) }
        }
        try read(ObservedSource(source, traffic: traffic))
        #expect(seen.withLock { $0.0 } == (problem.map { [$0] } ?? []))
        #expect(seen.withLock { $0.1 } == 3)
        #expect(traffic.problems == [])
        #expect(traffic.counters.retries == 3)
    }

    @Test("who waits no longer than that for a read hears of silence sooner")
    func shortDeadline() throws {
        let traffic = OriginTraffic(readDeadline: .seconds(2)) { Self.start + .seconds(3) }
        let seen = Lock<[String]>([])
        let source = StubbornSource(waits: SourceSilence(since: Self.start, tries: 1, error: nil)) {
            seen.withLock { $0 = traffic.problems }
        }
        try read(ObservedSource(source, traffic: traffic))
        #expect(seen.withLock { $0.count } == 1)
    }

    @Test("retries stay counted when the source that made them is gone, and are counted once when it is found again")
    func retriesAreKept() throws {
        let traffic = OriginTraffic()
        let kept = StubbornSource {}
        try read(ObservedSource(kept, traffic: traffic))
        try read(ObservedSource(kept, traffic: traffic))
        try read(ObservedSource(StubbornSource {}, traffic: traffic))
        #expect(traffic.counters.retries == 9)
        #expect(traffic.counters.requests == 3)
    }

    @Test("the last failure is the problem until something of the same origin gets through") func failure() throws {
        let passed = Lock<Int64>(0)
        let traffic = OriginTraffic { Self.start + .seconds(passed.withLock { $0 }) }
        let failing = ObservedSource(
            StubbornSource { () throws(MCFSError) in throw MCFSError(.originUnavailable, "no answer") },
            traffic: traffic)
        #expect(throws: MCFSError.self) { try read(failing) }
        #expect(traffic.problems == ["no answer"])
        passed.withLock { $0 = 30 }
        #expect(throws: MCFSError.self) { try read(failing) }
        #expect(traffic.problems == ["no answer (2 failures in 30 s)"])
        #expect(traffic.counters.errors == 2)
        try read(ObservedSource(StubbornSource("other:80") {}, traffic: traffic))
        #expect(traffic.problems.count == 1)
        try read(ObservedSource(StubbornSource {}, traffic: traffic))
        #expect(traffic.problems == [])
    }
}
