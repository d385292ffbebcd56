internal import Glibc
internal import MCFSCore

/// A value under a lock, and threads that wait until it changes.
///
/// `@unchecked`: the value is touched under the mutex only; the pthread objects lie at fixed addresses.
final class Condition<Value>: @unchecked Sendable {
    private var value: Value
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let signal: UnsafeMutablePointer<pthread_cond_t>

    init(_ value: Value) {
        self.value = value
        mutex = .allocate(capacity: 1)
        mutex.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, nil)
        signal = .allocate(capacity: 1)
        signal.initialize(to: pthread_cond_t())
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        // Waits are durations: setting the wall clock must not stretch them.
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(signal, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(signal)
        signal.deallocate()
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    /// Runs `body` under the lock.
    func withLock<Result>(_ body: (inout Value) -> Result) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body(&value)
    }

    /// Runs `body` under the lock and wakes all who wait.
    func update<Result>(_ body: (inout Value) -> Result) -> Result {
        pthread_mutex_lock(mutex)
        defer {
            pthread_cond_broadcast(signal)
            pthread_mutex_unlock(mutex)
        }
        return body(&value)
    }

    /// Waits until `body` gives something, which it is asked under the lock after each `update`; nil at the deadline,
    /// after it was asked once more. Without a deadline it waits for ever.
    func wait<Result>(until deadline: Deadline?, _ body: (inout Value) -> Result?) -> Result? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while true {
            if let result = body(&value) { return result }
            guard let deadline else {
                pthread_cond_wait(signal, mutex)
                continue
            }
            let remaining = deadline.remaining
            if remaining == .zero { return nil }
            var time = timespec()
            clock_gettime(CLOCK_MONOTONIC, &time)
            // A day at most, so that the sum cannot overflow; the loop waits again.
            let milliseconds = Int(min(remaining.milliseconds, 86_400_000))
            let nanoseconds = time.tv_nsec + milliseconds % 1000 * 1_000_000
            time.tv_sec += milliseconds / 1000 + nanoseconds / 1_000_000_000
            time.tv_nsec = nanoseconds % 1_000_000_000
            pthread_cond_timedwait(signal, mutex, &time)
        }
    }
}
