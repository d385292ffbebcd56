import ControlAPI
import MCFSCore
import MCFSTestSupport
import Synchronization
import Testing

@testable import Daemon

@Suite struct OriginTrafficTests {
    /// Says how often it tried again, and runs `body` in its reads.
    private final class StubbornSource: ByteSource {
        let name = "origin/file"
        let hasRandomAccess = true
        let retries = Lock<UInt64>(0)
        let body: @Sendable () throws(MCFSError) -> Void

        init(_ body: @escaping @Sendable () throws(MCFSError) -> Void) { self.body = body }

        var retryCount: UInt64 { retries.withLock { $0 } }

        func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
            retries.withLock { $0 += 3 }
            try body()
        }
    }

    private func read(_ source: any ByteSource) throws {
        try source.read(ByteRange(0, 0), deadline: .soon, into: CollectingSink())
    }

    @Test("while requests are being repeated that is the problem, and none once they got through")
    func repeating() throws {
        let traffic = OriginTraffic()
        let seen = Lock<(String?, UInt64)>((nil, 0))
        let source = ObservedSource(
            StubbornSource { seen.withLock { $0 = (traffic.problem, traffic.counters.retries) } }, traffic: traffic)
        try read(source)
        #expect(seen.withLock { $0.0 }?.contains("origin/file is waited for") == true)
        #expect(seen.withLock { $0.1 } == 3)
        #expect(traffic.problem == nil)
        #expect(traffic.counters.retries == 3)
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

    @Test("the last failure is the problem until something gets through") func failure() throws {
        let traffic = OriginTraffic()
        let failing = ObservedSource(
            StubbornSource { () throws(MCFSError) in throw MCFSError(.originUnavailable, "no answer") },
            traffic: traffic)
        #expect(throws: MCFSError.self) { try read(failing) }
        #expect(traffic.problem == "no answer")
        #expect(traffic.counters.errors == 1)
        try read(ObservedSource(StubbornSource {}, traffic: traffic))
        #expect(traffic.problem == nil)
    }
}
