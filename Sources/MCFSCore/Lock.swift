#if TSAN_MUTEX
    internal import Glibc

    /// `Lock` for the thread sanitizer, which does not see into `Synchronization.Mutex`: its fast path is inlined and its
    /// slow path is a futex call of the standard library, so all that it guards looks unguarded. A pthread mutex is known
    /// to the sanitizer. Built with `-DTSAN_MUTEX` (scripts/check --sanitize=thread).
    // @unchecked: the value is touched under the mutex only; both live at fixed addresses until deinit.
    package struct Lock<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
        private let mutex: UnsafeMutablePointer<pthread_mutex_t>
        // Storage of its own also where the value has no size: its address then belongs to nothing else, such as the head
        // of the object that the lock is part of.
        private let value: UnsafeMutablePointer<Value>

        package init(_ initialValue: consuming sending Value) {
            mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
            pthread_mutex_init(mutex, nil)
            value = UnsafeMutablePointer<Value>.allocate(capacity: 1)
            value.initialize(to: initialValue)
        }

        deinit {
            value.deinitialize(count: 1)
            value.deallocate()
            pthread_mutex_destroy(mutex)
            mutex.deallocate()
        }

        package borrowing func withLock<Result: ~Copyable, Failure: Error>(
            _ body: (inout sending Value) throws(Failure) -> sending Result
        ) throws(Failure) -> sending Result {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            return try body(&value.pointee)
        }

        package borrowing func withLockIfAvailable<Result: ~Copyable, Failure: Error>(
            _ body: (inout sending Value) throws(Failure) -> sending Result
        ) throws(Failure) -> sending Result? {
            guard pthread_mutex_trylock(mutex) == 0 else { return nil }
            defer { pthread_mutex_unlock(mutex) }
            return try body(&value.pointee)
        }
    }
#else
    package import Synchronization

    /// A value behind a mutex. For state that somebody waits for, use `Guarded`.
    package typealias Lock<Value: ~Copyable> = Mutex<Value>
#endif
