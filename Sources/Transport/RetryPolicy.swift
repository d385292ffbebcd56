internal import Glibc

/// How long to wait between tries, and how: values, so that tests need no real time.
package struct RetryPolicy: Sendable {
    /// Upper bound of the first wait; it doubles from try to try that brings nothing.
    package var firstDelay: Duration = .milliseconds(100)
    package var delayMax: Duration = .seconds(5)
    package var now: @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now }
    /// Blocks the calling thread.
    package var sleep: @Sendable (Duration) -> Void = { duration in
        let (seconds, attoseconds) = duration.components
        var rest = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
        var left = timespec()
        while nanosleep(&rest, &left) == -1, errno == EINTR { rest = left }
    }
    /// From 0 up to, not including, 1.
    package var random: @Sendable () -> Double = { Double.random(in: 0..<1) }

    package init() {}

    /// The wait before the next try: full jitter, which spreads clients that failed together. An origin that named a
    /// time gets that at least.
    func delay(failures: Int, retryAfter: Duration?) -> Duration {
        let doublings = min(max(failures - 1, 0), 20)
        let bound = min(delayMax, firstDelay * (1 << doublings))
        let jittered = bound * random()
        return retryAfter.map { $0 + min(jittered, firstDelay) } ?? jittered
    }
}
