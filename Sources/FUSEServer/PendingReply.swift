internal import CFUSE
internal import ChunkStore
internal import Glibc
internal import MCFSCore
internal import MountFS
internal import Synchronization

/// A read that waits for a fetch: owns its `Reply` and gives it up once, to whoever comes first: the fetch, the death of
/// its reader, or the end of the mount.
///
/// It is registered with libfuse by number, before it has the reply: libfuse calls back at once, holding the request's
/// lock, when the INTERRUPT was faster than the read. An answer in that call would free the request under it, so an end
/// that comes before `arm` is only remembered, and `arm` answers.
final class PendingReply: ReadWaiter {
    private struct State: ~Copyable {
        var reply: Reply?
        var isArmed = false
        /// errno to answer, where the end came before the reply.
        var earlyErrno: CInt?
    }

    let number: UInt64
    /// The thread that waits; 0 where it is in another PID namespace.
    let thread: pid_t
    /// The file of a read; nil for what waits for something else.
    let node: Node?
    let began = ContinuousClock.now
    private let state = Lock(State())
    private let replies: PendingReplies

    fileprivate init(number: UInt64, thread: pid_t, node: Node?, replies: PendingReplies) {
        self.number = number
        self.node = node
        self.thread = thread
        self.replies = replies
    }

    func complete(_ result: consuming Result<FileRegion, MCFSError>) {
        guard let reply = take() else { return }
        switch consume result {
        case .success(let region):
            let count = region.count
            if let error = reply.send(region) { replies.failed(error, node) } else { replies.succeeded(count) }
        case .failure(let error):
            reply.fail(error)
            replies.failed(error, node)
        }
        replies.settle(number)
    }

    /// Gives the reply to `body`, which answers it, unless the wait has ended.
    func answer(_ body: (consuming Reply) -> Void) {
        guard let reply = take() else { return }
        body(reply)
        replies.settle(number)
    }

    /// Whether nobody waits any more.
    var hasEnded: Bool { state.withLock { $0.isArmed && $0.reply == nil } }

    /// Ends the wait with an errno, from any thread, also from libfuse's interrupt callback.
    func end(errno: CInt) {
        let reply = state.withLock { state -> Reply? in
            if !state.isArmed { state.earlyErrno = errno }
            return state.reply.take()
        }
        guard let reply = consume reply else { return }
        reply.fail(errno: errno)
        replies.interrupted()
        replies.settle(number)
    }

    fileprivate func arm(_ reply: consuming Reply) {
        var slot: Reply? = consume reply
        let errno = state.withLock { state -> CInt? in
            state.isArmed = true
            if let errno = state.earlyErrno { return errno }
            state.reply = slot.take()
            return nil
        }
        guard let errno, let reply = slot.take() else { return }
        reply.fail(errno: errno)
        replies.interrupted()
        replies.settle(number)
    }

    private func take() -> Reply? { state.withLock { $0.reply.take() } }
}

/// The pending reads of one mount. Thread safe; calls `observer` without a lock.
///
/// Lock order: libfuse's request lock (held in an interrupt callback), then `table`, then a reply's `state`; replies
/// are sent with none of ours held.
final class PendingReplies: Sendable {
    /// Hears how pending reads ended.
    struct Observer: Sendable {
        var succeeded: @Sendable (_ bytes: Int) -> Void
        var failed: @Sendable (MCFSError, Node?) -> Void
        var interrupted: @Sendable () -> Void
    }

    private struct Table {
        var next: UInt64 = 1
        /// Not answered yet, or being answered.
        var waiting: [UInt64: PendingReply] = [:]
        /// errno for everything that comes once the mount ends.
        var closedErrno: CInt?
    }

    private let table = Lock(Table())
    private let drained = Guarded(())
    private let observer: Observer
    /// Readers that a signal reached.
    private let signalled: KilledReaders

    init(observer: Observer, lookout: Lookout) {
        self.observer = observer
        signalled = KilledReaders(lookout)
    }

    /// Makes a waiter of a request that could not be answered at once.
    ///
    /// - Parameter node: the file that is read.
    func add(_ reply: consuming Reply, reading node: Node? = nil) -> PendingReply {
        let thread = fuse_req_ctx(reply.request)?.pointee.pid ?? 0
        let (waiter, closedErrno) = table.withLock { table in
            let waiter = PendingReply(number: table.next, thread: thread, node: node, replies: self)
            table.next += 1
            table.waiting[waiter.number] = waiter
            return (waiter, table.closedErrno)
        }
        if let closedErrno { waiter.end(errno: closedErrno) }
        fuse_req_interrupt_func(
            reply.request,
            { request, number in
                guard let request, let context = ServingContext.of(request) else { return }
                context.pending.interrupt(UInt64(UInt(bitPattern: number)))
            }, UnsafeMutableRawPointer(bitPattern: UInt(waiter.number)))
        waiter.arm(reply)
        return waiter
    }

    /// A signal reached the reader: its read ends if it is being killed, now or later. Safe for numbers that were settled
    /// meanwhile.
    func interrupt(_ number: UInt64) {
        guard let waiter = table.withLock({ $0.waiting[number] }) else { return }
        signalled.watch(waiter)
        // It may have been settled in between: nobody would take it off the watch.
        if table.withLock({ $0.waiting[number] == nil }) { signalled.forget(number) }
    }

    /// Answers everything that waits, now and from now on, with `errno`.
    func close(errno: CInt) {
        let waiters = table.withLock { table in
            table.closedErrno = errno
            return Array(table.waiting.values)
        }
        for waiter in waiters { waiter.end(errno: errno) }
    }

    /// Blocks until every reply has left, so that nobody touches the session any more. After `close` only: replies are
    /// then on their way, and writing them does not block.
    func waitUntilDrained() {
        _ = drained.wait { _ in table.withLock { $0.waiting.isEmpty } ? true : nil }
    }

    /// Reads that wait, longest first.
    var reads: [(node: Node, thread: pid_t, began: ContinuousClock.Instant)] {
        table.withLock { $0.waiting.values.map { ($0.node, $0.thread, $0.began) } }
            .compactMap { node, thread, began in node.map { ($0, thread, began) } }
            .sorted { $0.2 < $1.2 }
    }

    var count: Int { table.withLock { $0.waiting.count } }

    fileprivate func settle(_ number: UInt64) {
        let waiter = table.withLock { $0.waiting.removeValue(forKey: number) }
        withExtendedLifetime(waiter) {}
        signalled.forget(number)
        drained.update { _ in }
    }

    fileprivate func succeeded(_ bytes: Int) { observer.succeeded(bytes) }
    fileprivate func failed(_ error: MCFSError, _ node: Node?) { observer.failed(error, node) }
    fileprivate func interrupted() { observer.interrupted() }
}
