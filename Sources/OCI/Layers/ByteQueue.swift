internal import Glibc
internal import MCFSCore

/// A bounded queue of bytes between the thread that a source delivers on and the one that uses them.
///
/// One writer, one reader. A full queue blocks the writer, an empty one the reader; the failure of either wakes the
/// other at once.
// Unchecked: all mutable state is touched with `mutex` held.
final class ByteQueue: ByteSink, @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    /// Signalled whenever the state below changes.
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let name: String
    private let bytesMax: Int
    private let deadline: Deadline

    private var pieces: [[UInt8]] = []
    private var bytes = 0
    /// How writing ended.
    private var ending: Result<Void, MCFSError>?
    private var isCancelled = false

    /// - Parameters:
    ///   - name: what messages call the source of the bytes.
    ///   - bytesMax: bytes that wait in it; a piece that is larger waits alone.
    init(name: String, bytesMax: Int, deadline: Deadline) {
        self.name = name
        self.bytesMax = bytesMax
        self.deadline = deadline
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(changed, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    /// Appends a copy. Blocks while the queue is full.
    ///
    /// - Throws: `cancelled` when the reader gave up, `timedOut` at the deadline.
    func write(_ piece: UnsafeRawBufferPointer) throws(MCFSError) {
        guard !piece.isEmpty else { return }
        let copy = Array(piece)
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while !isCancelled, bytes > 0, bytes + copy.count > bytesMax { try wait() }
        if isCancelled { throw MCFSError(.cancelled, "nobody reads \(name) any more") }
        pieces.append(copy)
        bytes += copy.count
        pthread_cond_broadcast(changed)
    }

    /// Says that nothing more will be written, and why.
    func finish(_ result: Result<Void, MCFSError>) {
        pthread_mutex_lock(mutex)
        if ending == nil { ending = result }
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
    }

    /// Says that nothing more will be read.
    func cancel() {
        pthread_mutex_lock(mutex)
        isCancelled = true
        pieces = []
        bytes = 0
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
    }

    /// All pieces that wait, in order; nil when the writer is done. Blocks while there is none.
    ///
    /// - Throws: how writing failed, once everything before is read; `timedOut` at the deadline.
    func next() throws(MCFSError) -> [[UInt8]]? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while pieces.isEmpty {
            if let ending {
                try ending.get()
                return nil
            }
            try wait()
        }
        let taken = pieces
        pieces = []
        bytes = 0
        pthread_cond_broadcast(changed)
        return taken
    }

    /// With `mutex` held.
    private func wait() throws(MCFSError) {
        let remaining = deadline.remaining.milliseconds
        guard remaining > 0 else { throw MCFSError(.timedOut, "\(name) could not be read in time", isTransient: true) }
        var instant = timespec()
        clock_gettime(CLOCK_MONOTONIC, &instant)
        // A day at most: a wait may end early, and the sum stays in range.
        let sum = Int64(instant.tv_nsec) + min(remaining, 86_400_000) * 1_000_000
        instant.tv_sec += Int(sum / 1_000_000_000)
        instant.tv_nsec = Int(sum % 1_000_000_000)
        pthread_cond_timedwait(changed, mutex, &instant)
    }
}
