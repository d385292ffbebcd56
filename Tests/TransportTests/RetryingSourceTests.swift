import MCFSCore
import MCFSTestSupport
import Synchronization
import Testing
import Transport

/// A source that fails as it is told: one step per read.
private final class FailingSource: ByteSource {
    /// Delivers so many bytes of what is asked, then throws; nil: everything, no error.
    typealias Step = (bytes: UInt64, error: MCFSError)?

    let name = "failing"
    let hasRandomAccess = true
    private let steps: Lock<[Step]>
    private let asked = Lock<[ByteRange]>([])

    init(_ steps: [Step]) { self.steps = Lock(steps) }

    var ranges: [ByteRange] { asked.withLock { $0 } }

    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        asked.withLock { $0.append(range) }
        let step = steps.withLock { $0.isEmpty ? nil : $0.removeFirst() }
        let bytes = pattern(1000)[Int(range.lowerBound)..<Int(range.upperBound)].prefix(Int(step?.bytes ?? range.count))
        let result = bytes.withUnsafeBytes { bytes in Result { () throws(MCFSError) in try sink.write(bytes) } }
        try result.get()
        if let step { throw step.error }
    }
}

/// Time that passes only in `sleep`.
private final class ManualTime: Sendable {
    private let state = Lock<(now: ContinuousClock.Instant, slept: [Duration])>((.now, []))

    var slept: [Duration] { state.withLock { $0.slept } }
    var now: ContinuousClock.Instant { state.withLock { $0.now } }

    func policy(random: Double = 0.5) -> RetryPolicy {
        var policy = RetryPolicy()
        policy.now = { self.now }
        policy.random = { random }
        policy.sleep = { duration in
            self.state.withLock {
                $0.now += duration
                $0.slept.append(duration)
            }
        }
        return policy
    }
}

private let transient = MCFSError(.originUnavailable, "reset", isTransient: true)

@Suite("RetryingSource", .timeLimit(.minutes(5)))
struct RetryingSourceTests {
    private let time = ManualTime()

    private func read(
        _ source: FailingSource, _ range: ByteRange = ByteRange(100, 200), within: Duration = .seconds(60),
        random: Double = 0.5, sink: CollectingSink = CollectingSink(), onRetry: (@Sendable (MCFSError) -> Void)? = nil
    ) -> (error: MCFSError?, bytes: [UInt8]) {
        let retrying = RetryingSource(source, policy: time.policy(random: random), onRetry: onRetry)
        let error = failure { () throws(MCFSError) in
            try retrying.read(range, deadline: Deadline(time.now + within), into: sink)
        }
        return (error, sink.bytes)
    }

    @Test("a read that works is made once")
    func works() {
        let source = FailingSource([])
        #expect(read(source).bytes == Array(pattern(1000)[100..<200]))
        #expect(source.ranges.count == 1)
        #expect(time.slept == [])
    }

    @Test("a retry resumes at the first byte that was not delivered")
    func resumes() {
        let source = FailingSource([(30, transient), (0, transient), (20, transient)])
        let retries = Lock(0)
        let read = read(source) { _ in retries.withLock { $0 += 1 } }
        #expect(read.error == nil)
        #expect(read.bytes == Array(pattern(1000)[100..<200]))
        #expect(source.ranges == [ByteRange(100, 200), ByteRange(130, 200), ByteRange(130, 200), ByteRange(150, 200)])
        #expect(retries.withLock { $0 } == 3)
    }

    @Test("the wait doubles up to 5 s, jittered over its whole length, and starts over after progress")
    func backoff() {
        let source = FailingSource(Array(repeating: (0, transient), count: 8) + [(1, transient), (0, transient)])
        #expect(read(source).error == nil)
        let milliseconds = [50, 100, 200, 400, 800, 1600, 2500, 2500, 50, 100]
        #expect(time.slept == milliseconds.map { .milliseconds($0) })
    }

    @Test("a read without a byte ends after five minutes, whatever its deadline; one that brings some goes on")
    func patience() {
        let silent = FailingSource(Array(repeating: (0, transient), count: 1000))
        let error = read(silent, within: .seconds(36_000)).error
        #expect(error?.message.hasPrefix("reset (given up after 29") == true, "\(error?.message ?? "")")
        let byte: [FailingSource.Step] = Array(repeating: (0, transient), count: 40) + [(1, transient)]
        let slow = FailingSource((0..<99).flatMap { _ in byte })
        #expect(read(slow, within: .seconds(36_000)).error == nil)
    }

    @Test("an answer is asked for again for a minute, whatever the deadline, and not at all for who names a later time")
    func answers() {
        let policy = time.policy()
        let deadline = Deadline(time.now + .seconds(36_000))
        var tries = 0
        let error = failure { () throws(MCFSError) in
            _ = try policy.retrying(until: deadline) { () throws(MCFSError) -> Int in
                tries += 1
                throw transient
            }
        }
        #expect(error?.message.contains("given up after 5") == true && tries > 10, "\(error?.message ?? "")")
        tries = 0
        let busy = MCFSError(.originUnavailable, "busy", isTransient: true, retryAfter: .seconds(3600))
        let refused = failure { () throws(MCFSError) in
            _ = try policy.retrying(until: deadline) { () throws(MCFSError) -> Int in
                tries += 1
                throw busy
            }
        }
        #expect(refused?.retryAfter == .seconds(3600) && tries == 1)
    }

    @Test("nobody who gave up is asked for again")
    func abandoned() {
        final class AbandonedSink: ByteSink {
            let isAbandoned = true
            func write(_ bytes: UnsafeRawBufferPointer) {}
        }
        let source = FailingSource([(0, transient), (0, transient)])
        let retrying = RetryingSource(source, policy: time.policy())
        let error = failure { () throws(MCFSError) in
            try retrying.read(ByteRange(0, 10), deadline: Deadline(time.now + .seconds(60)), into: AbandonedSink())
        }
        #expect(error?.code == .cancelled)
        #expect(source.ranges.count == 1)
    }

    @Test("it says since when no byte came, how often it tried, and what became of it")
    func silence() {
        let seen = Lock<[SourceSilence]>([])
        let source = FailingSource([(0, transient), (5, transient), (0, transient)])
        let holder = Lock<RetryingSource?>(nil)
        var policy = time.policy()
        let sleep = policy.sleep ?? { _ in }
        policy.sleep = { duration in
            if let silence = holder.withLock({ $0?.silence }) { seen.withLock { $0.append(silence) } }
            sleep(duration)
        }
        let retrying = RetryingSource(source, policy: policy)
        holder.withLock { $0 = retrying }
        let start = time.now
        let error = failure { () throws(MCFSError) in
            try retrying.read(ByteRange(0, 10), deadline: Deadline(start + .seconds(60)), into: CollectingSink())
        }
        holder.withLock { $0 = nil }
        #expect(error == nil)
        let silences = seen.withLock { $0 }
        #expect(silences.map(\.tries) == [1, 0, 1])
        #expect(silences.map { $0.since > start } == [false, true, true])
        #expect(silences.allSatisfy { $0.error?.message == "reset" })
        #expect(retrying.silence == nil)
    }

    @Test("no jitter at all is no wait")
    func zeroJitter() {
        let source = FailingSource([(0, transient)])
        #expect(read(source, random: 0).error == nil)
        #expect(time.slept == [.zero])
    }

    @Test("the origin's Retry-After is waited for")
    func retryAfter() {
        let source = FailingSource([
            (0, MCFSError(.originUnavailable, "slow down", isTransient: true, retryAfter: .seconds(7)))
        ])
        #expect(read(source).error == nil)
        #expect(time.slept == [.milliseconds(7050)])
    }

    @Test("a Retry-After beyond the deadline ends the read at once")
    func retryAfterTooLate() {
        let source = FailingSource([
            (0, MCFSError(.originUnavailable, "slow down", isTransient: true, retryAfter: .seconds(61)))
        ])
        let error = read(source).error
        #expect(error?.code == .originUnavailable)
        #expect(error?.message == "slow down")
        #expect(time.slept == [])
    }

    @Test("the deadline ends the retries with the last error and how long was tried")
    func exhausted() {
        let source = FailingSource(Array(repeating: (0, transient), count: 1000))
        let error = read(source, within: .seconds(10)).error
        #expect(error?.code == .originUnavailable)
        #expect(error?.isTransient == true)
        #expect(time.slept.reduce(.zero, +) < .seconds(10))
        #expect(error?.message.hasPrefix("reset (given up after 8.") == true, "\(error?.message ?? "")")
    }

    @Test("an error that is not transient is final")
    func final() {
        let source = FailingSource([(30, MCFSError(.changed, "another version"))])
        let read = read(source)
        #expect(read.error?.code == .changed)
        #expect(read.error?.message == "another version")
        #expect(source.ranges.count == 1)
    }

    @Test("the sink's error is final, even a transient one")
    func sinkError() {
        let source = FailingSource([])
        #expect(read(source, sink: CollectingSink(limit: 10)).error?.code == .noSpace)
        #expect(source.ranges.count == 1)
    }

    @Test("an error after the last byte is none")
    func late() {
        let source = FailingSource([(100, transient)])
        let read = read(source)
        #expect(read.error == nil)
        #expect(read.bytes.count == 100)
    }
}
