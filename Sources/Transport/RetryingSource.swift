package import MCFSCore
import Synchronization

/// Repeats a source's reads after transient errors: exponential backoff with jitter, `Retry-After` honoured, resumed at
/// the first byte not yet delivered, until the deadline, or until no byte has come for long. Who reads it does not repeat:
/// what it throws is that the bytes do not come in time, or, with `retryAfter`, not before a time.
package final class RetryingSource: ByteSource {
    private let base: any ByteSource
    private let policy: RetryPolicy
    private let retries = Atomic<UInt64>(0)
    private let onRetry: (@Sendable (MCFSError) -> Void)?
    private let waiting = Lock(Waiting())

    /// Of all reads together.
    private struct Waiting {
        var reads = 0
        var since = ContinuousClock.now
        var tries = 0
        var error: MCFSError?
    }

    /// `onRetry` is called before each wait, on the reading thread, with the error that made it necessary.
    package init(
        _ base: any ByteSource, policy: RetryPolicy = RetryPolicy(), onRetry: (@Sendable (MCFSError) -> Void)? = nil
    ) {
        self.base = base
        self.policy = policy
        self.onRetry = onRetry
    }

    package var retryCount: UInt64 { retries.load(ordering: .relaxed) }
    package var name: String { base.name }
    package var origin: String { base.origin }
    package var hasRandomAccess: Bool { base.hasRandomAccess }
    package var isLocal: Bool { base.isLocal }
    package var silence: SourceSilence? {
        waiting.withLock { waiting in
            waiting.reads == 0
                ? nil : SourceSilence(since: waiting.since, tries: waiting.tries, error: waiting.error)
        }
    }

    /// - Throws: the last error, with how long was tried, when the deadline leaves no time for another try; an error
    ///   that is not transient, or that the sink threw, at once.
    package func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        let start = policy.now()
        begin(start)
        defer { waiting.withLock { $0.reads -= 1 } }
        var lastByte = start
        var position = range.lowerBound
        var tries = 0
        var failures = 0
        while position < range.upperBound {
            let counter = CountingSink(sink, limit: range.upperBound - position) { [self] in gotBytes() }
            tries += 1
            waiting.withLock { $0.tries += 1 }
            do throws(MCFSError) {
                try base.read(ByteRange(position, range.upperBound), deadline: deadline, into: counter)
                guard counter.count == range.upperBound - position else {
                    throw MCFSError(
                        .originUnavailable,
                        "\(base.name) gave \(counter.count) of \(range.upperBound - position) bytes", isTransient: true)
                }
                return
            } catch {
                position += counter.count
                // A transfer that fails after its last byte has done its work.
                if counter.failure == nil, position == range.upperBound { return }
                if counter.failure != nil || !error.isTransient { throw error }
                failures = counter.count > 0 ? 1 : failures + 1
                let delay = policy.delay(failures: failures, retryAfter: error.retryAfter)
                let now = policy.now()
                if counter.count > 0 { lastByte = now }
                let last = deadline.earlier(Deadline(lastByte + policy.patience)).instant
                guard !deadline.isCancelled, now + delay < last else {
                    throw error.exhausted(tries: tries, after: now - start)
                }
                if sink.isAbandoned {
                    throw MCFSError(.cancelled, "nobody reads \(base.name) any more", isTransient: true)
                }
                waiting.withLock { $0.error = error }
                retries.add(1, ordering: .relaxed)
                onRetry?(error)
                policy.wait(delay, deadline)
            }
        }
    }
}

extension RetryingSource {
    private func begin(_ now: ContinuousClock.Instant) {
        waiting.withLock { waiting in
            waiting.reads += 1
            if waiting.reads == 1 { waiting = Waiting(reads: 1, since: now) }
        }
    }

    private func gotBytes() {
        let now = policy.now()
        waiting.withLock { waiting in
            waiting.since = now
            waiting.tries = 0
            waiting.error = nil
        }
    }
}

/// Counts what reaches a sink, and tells the sink's errors from the source's.
///
/// `@unchecked`: a sink is never called concurrently, and the end of a read comes after its last call.
private final class CountingSink: ByteSink, @unchecked Sendable {
    private let base: any ByteSink
    private let limit: UInt64
    private(set) var count: UInt64 = 0
    private(set) var failure: MCFSError?
    private let gotBytes: @Sendable () -> Void

    init(_ base: any ByteSink, limit: UInt64, gotBytes: @escaping @Sendable () -> Void) {
        self.base = base
        self.limit = limit
        self.gotBytes = gotBytes
    }

    func isFull(whenDrained: @escaping @Sendable () -> Void) -> Bool { base.isFull(whenDrained: whenDrained) }
    var isAbandoned: Bool { base.isAbandoned }

    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        guard UInt64(bytes.count) <= limit - count else {
            let error = MCFSError(.failed, "a source gave more bytes than it was asked for")
            failure = error
            throw error
        }
        if !bytes.isEmpty { gotBytes() }
        do throws(MCFSError) {
            try base.write(bytes)
            count += UInt64(bytes.count)
        } catch {
            failure = error
            throw error
        }
    }
}
