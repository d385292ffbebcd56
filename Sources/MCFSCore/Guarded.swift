internal import Glibc

/// A value behind a mutex, with a condition to wait on: the one place where threads of ours block for each other.
/// For state that nobody waits for, use `Lock`.
package final class Guarded<Value>: @unchecked Sendable {
    // @unchecked: `value` is touched under `mutex` only; the pthread objects live at fixed addresses until deinit.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var value: Value

    package init(_ value: sending Value) {
        self.value = value
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        // Deadlines must not move with the wall clock.
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Runs `body` with the value, alone. Wakes nobody.
    package func withLock<Result, Failure: Error>(
        _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&value)
    }

    /// Runs `body` with the value, alone, then wakes everybody who waits.
    package func update<Result, Failure: Error>(
        _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        pthread_mutex_lock(mutex)
        defer {
            pthread_cond_broadcast(condition)
            pthread_mutex_unlock(mutex)
        }
        return try body(&value)
    }

    /// Wakes one of those who wait, where all wait for the same: after a `withLock` that made something for one of them.
    package func wakeOne() { pthread_cond_signal(condition) }

    /// Blocks until `body` returns a value, the deadline passes or what it is for is cancelled; `body` is called under the
    /// lock, again after each `update` and `wakeOne`. - Returns: nil at the deadline.
    @discardableResult
    package func wait<Result>(until deadline: Deadline? = nil, _ body: (inout Value) -> Result?) -> Result? {
        guard let cancellation = deadline?.cancellation else { return block(until: deadline, body) }
        return cancellation.waking({ self.update { _ in } }) { block(until: deadline, body) }
    }

    private func block<Result>(until deadline: Deadline?, _ body: (inout Value) -> Result?) -> Result? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while true {
            if let result = body(&value) { return result }
            guard let deadline else {
                pthread_cond_wait(condition, mutex)
                continue
            }
            let remaining = deadline.remaining
            if remaining == .zero { return nil }
            var time = timespec()
            clock_gettime(CLOCK_MONOTONIC, &time)
            let (seconds, attoseconds) = remaining.components
            let nanoseconds = time.tv_nsec + Int(attoseconds / 1_000_000_000)
            time.tv_sec += Int(min(seconds, 1 << 30)) + nanoseconds / 1_000_000_000
            time.tv_nsec = nanoseconds % 1_000_000_000
            pthread_cond_timedwait(condition, mutex, &time)
        }
    }
}
