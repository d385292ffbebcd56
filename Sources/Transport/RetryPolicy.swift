package import MCFSCore

/// How long to wait between tries, and how: values, so that tests need no real time.
package struct RetryPolicy: Sendable {
    /// Upper bound of the first wait; it doubles from try to try that brings nothing.
    package var firstDelay: Duration = .milliseconds(100)
    package var delayMax: Duration = .seconds(5)
    /// Longest that a source is read without a byte, whatever the deadline: a stream has one of hours.
    package var patience: Duration = .seconds(300)
    /// Longest that `retrying` goes on: a listing of many pages has hours as well, and somebody waits for each.
    package var answerPatience: Duration = .seconds(60)
    /// Most tries of `retrying`.
    package var triesMax = Int.max
    package var now: @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now }
    /// Blocks the calling thread; nil: until the time is over, or the work is given up.
    package var sleep: (@Sendable (Duration) -> Void)?
    /// From 0 up to, not including, 1.
    package var random: @Sendable () -> Double = { Double.random(in: 0..<1) }

    package init() {}

    /// Calls `body` again after transient errors, until the deadline leaves no time for another try.
    ///
    /// - Parameter onRetry: called before each wait with the error that made it necessary.
    /// - Throws: the last error, with how long was tried; one that is not transient at once.
    package func retrying<Value>(
        until deadline: Deadline, onRetry: (MCFSError) -> Void = { _ in }, _ body: () throws(MCFSError) -> Value
    ) throws(MCFSError) -> Value {
        let start = now()
        var failures = 0
        while true {
            do throws(MCFSError) {
                return try body()
            } catch {
                guard error.isTransient else { throw error }
                failures += 1
                let delay = delay(failures: failures, retryAfter: error.retryAfter)
                let last = min(deadline.instant, start + answerPatience)
                guard failures < triesMax, !deadline.isCancelled, now() + delay < last else {
                    throw error.exhausted(tries: failures, after: now() - start)
                }
                onRetry(error)
                wait(delay, deadline)
            }
        }
    }

    func wait(_ delay: Duration, _ deadline: Deadline) {
        if let sleep { sleep(delay) } else { deadline.sleep(delay) }
    }

    /// The wait before the next try: full jitter, which spreads clients that failed together. An origin that named a
    /// time gets that at least.
    func delay(failures: Int, retryAfter: Duration?) -> Duration {
        let doublings = min(max(failures - 1, 0), 20)
        let bound = min(delayMax, firstDelay * (1 << doublings))
        let jittered = bound * random()
        return retryAfter.map { $0 + min(jittered, firstDelay) } ?? jittered
    }
}

extension MCFSError {
    /// The same error, saying how long was tried. One of the first try, which says itself when to come again, is as it was.
    func exhausted(tries: Int, after duration: Duration) -> MCFSError {
        if tries == 1, retryAfter != nil { return self }
        var error = self
        let tenths = (duration.milliseconds + 50) / 100
        error.message +=
            " (given up after \(tenths / 10).\(tenths % 10) s and \(tries) \(tries == 1 ? "try" : "tries"))"
        return error
    }
}
