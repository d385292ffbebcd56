internal import CFUSE
internal import Glibc
internal import MCFSCore
internal import MountFS
internal import Synchronization

/// Serves one mounted libfuse session on threads of its own and clears it away when the mount has ended.
///
/// States: serving → ended. In between, in this order: the threads that serve are gone; reads that wait are failed and
/// their replies have left (a reply that comes later would find no session); the mount is taken away where it still
/// stands; the session is freed; `ended` is called.
// @unchecked: `session` is used by threads that serve, and by others through `withSession`.
final class ServingLoop: @unchecked Sendable {
    private let session: OpaquePointer
    private let context: ServingContext
    private let threadsMax: Int
    private let onEnd: @Sendable () -> Void
    /// Those that use the session besides its threads. Several at once: a notification waits in the kernel for the inode that
    /// it is about, and others need not wait for that.
    private let users = Guarded(Users())
    private let hasEnded = Atomic<Bool>(false)

    private struct Users {
        var count = 0
        var isClosed = false
    }

    /// `session` is mounted; this object frees it.
    init(session: OpaquePointer, context: ServingContext, threadsMax: Int, onEnd: @escaping @Sendable () -> Void) {
        self.session = session
        self.context = context
        self.threadsMax = threadsMax
        self.onEnd = onEnd
        context.forgetPages.withLock { $0 = { [weak self] in self?.forgetPages(of: $0) } }
        context.forgetAttributes.withLock { $0 = { [weak self] in self?.forgetAttributes(of: $0) } }
    }

    var isEnded: Bool { hasEnded.load(ordering: .acquiring) }

    /// - Throws: where a thread could not be made; the session is freed then.
    func start() throws(Errno) {
        let threads = ServingThreads(
            session, threadsMax: threadsMax, direct: DirectAnswers(context: context, device: fuse_session_fd(session)),
            changing: context.changing, lookout: context.lookout, logger: context.logger
        ) { [self] in clearAway() }
        context.lookout.add { [weak threads] in threads?.look() ?? false }
        do throws(Errno) {
            try context.startThreads()
            try threads.start()
        } catch {
            clearAway()
            throw error
        }
    }

    /// Begins to pass complete files through. - Returns: what speaks against it.
    func startPassthrough(_ sample: OwnedDescriptor) -> Errno? {
        var problem: Errno? = .notConnected
        withSession { problem = context.passthrough.start(device: fuse_session_fd($0), sample: sample) }
        return problem
    }

    /// See `MountSession.forgetPages`.
    func forgetPages(of node: Node) {
        // A node that the kernel does not know is an error that means nothing.
        withSession { _ = fuse_lowlevel_notify_inval_inode($0, node.number, 0, 0) }
    }

    private func forgetAttributes(of node: Node) {
        withSession { _ = fuse_lowlevel_notify_inval_inode($0, node.number, -1, 0) }
    }

    /// See `MountSession.forgetNames`.
    func forget(_ name: [UInt8], in directory: Node) {
        withSession { session in
            name.withUnsafeBytes { name in
                let start = name.baseAddress?.assumingMemoryBound(to: CChar.self)
                _ = fuse_lowlevel_notify_inval_entry(session, directory.number, start, name.count)
            }
        }
    }

    /// Runs `body` unless the session is about to be freed, which waits for it.
    private func withSession(_ body: (OpaquePointer) -> Void) {
        let isOpen = users.withLock { users in
            if !users.isClosed { users.count += 1 }
            return !users.isClosed
        }
        guard isOpen else { return }
        body(session)
        users.update { $0.count -= 1 }
    }

    /// - Returns: false where `timeout` passed first.
    func waitForEnd(_ timeout: Duration) -> Bool {
        context.changed.wait(until: Deadline(after: timeout)) { _ in isEnded ? true : nil } ?? false
    }

    /// Waits until the kernel has agreed on the protocol, which is when it begins to answer programs.
    /// - Returns: false where the loop ended or `timeout` passed first.
    func waitForInitialization(_ timeout: Duration) -> Bool {
        _ = context.changed.wait(until: Deadline(after: timeout)) { _ in context.isInitialized || isEnded ? true : nil }
        return context.isInitialized && !isEnded
    }

    private func clearAway() {
        context.pending.close(errno: ENOTCONN)
        context.pending.waitUntilDrained()
        context.endThreads()
        // Closes what the kernel was given to read by itself, while there is still a device to say it to.
        context.modes.clear()
        context.passthrough.stop()
        fuse_session_unmount(session)
        users.withLock { $0.isClosed = true }
        users.wait { $0.count == 0 ? true : nil }
        fuse_session_destroy(session)
        // Who waits for the end finds it known.
        onEnd()
        hasEnded.store(true, ordering: .releasing)
        context.changed.update { _ in }
    }
}
