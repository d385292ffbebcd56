package import MCFSCore
import Synchronization

/// Repeats a source's reads after transient errors: exponential backoff with jitter, `Retry-After` honoured, resumed at
/// the first byte not yet delivered, until the deadline.
package final class RetryingSource: ByteSource {
    private let base: any ByteSource
    private let policy: RetryPolicy
    private let retries = Atomic<UInt64>(0)
    private let onRetry: (@Sendable (MCFSError) -> Void)?

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
    package var hasRandomAccess: Bool { base.hasRandomAccess }
    package var isLocal: Bool { base.isLocal }

    /// - Throws: the last error, with how long was tried, when the deadline leaves no time for another try; an error
    ///   that is not transient, or that the sink threw, at once.
    package func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        let start = policy.now()
        var position = range.lowerBound
        var tries = 0
        var failures = 0
        while position < range.upperBound {
            let counter = CountingSink(sink, limit: range.upperBound - position)
            tries += 1
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
                guard now + delay < deadline.instant else { throw error.exhausted(tries: tries, after: now - start) }
                retries.add(1, ordering: .relaxed)
                onRetry?(error)
                policy.sleep(delay)
            }
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

    init(_ base: any ByteSink, limit: UInt64) {
        self.base = base
        self.limit = limit
    }

    func isFull(whenDrained: @escaping @Sendable () -> Void) -> Bool { base.isFull(whenDrained: whenDrained) }

    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        guard UInt64(bytes.count) <= limit - count else {
            let error = MCFSError(.failed, "a source gave more bytes than it was asked for")
            failure = error
            throw error
        }
        do throws(MCFSError) {
            try base.write(bytes)
            count += UInt64(bytes.count)
        } catch {
            failure = error
            throw error
        }
    }
}
