internal import CLinux
internal import Glibc

/// A thread that `startThread` made.
package final class StartedThread: Sendable {
    private struct State {
        /// nil before it runs.
        var identifier: pthread_t?
        var hasEnded = false
    }

    private let state = Guarded(State())

    fileprivate init() {}

    /// Waits until its body has returned and is gone; not where the thread itself asks.
    package func join() {
        state.wait { state in
            state.hasEnded || state.identifier.map { pthread_equal($0, pthread_self()) != 0 } == true ? true : nil
        }
    }

    /// Whether its body has returned.
    package var hasEnded: Bool { state.withLock { $0.hasEnded } }

    fileprivate func begin() { state.withLock { $0.identifier = pthread_self() } }

    fileprivate func end() { state.update { $0.hasEnded = true } }
}

/// Runs `body` on a new thread of its own: the one way to make a thread. Blocking there starves nobody.
///
/// Signals go to other threads, and its priority is that of the process.
/// - Parameter name: shown by `top -H`; at most 15 bytes count.
/// - Throws: EAGAIN where the system gives no more threads: a limit of processes (`pids.max`, `ulimit -u`), or memory. Whoever
///   asks goes on without, or fails the one request.
@discardableResult
package func startThread(
    _ name: String, _ body: @escaping @Sendable () -> Void
) throws(Errno) -> StartedThread {
    let thread = StartedThread()
    let start = Unmanaged.passRetained(ThreadStart(name, thread, body))
    var identifier = pthread_t()
    let result = blockingSignals {
        pthread_create(
            &identifier, nil,
            { argument in
                if let argument { Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue().run() }
                return nil
            }, start.toOpaque())
    }
    guard result == 0 else {
        start.release()
        throw Errno(rawValue: result)
    }
    pthread_detach(identifier)
    return thread
}

extension MCFSError {
    /// `startThread` failed.
    package init(noThread error: Errno) {
        self.init(
            .failed,
            "cannot start a thread: \(error); allow more processes and threads (pids.max of the container, ulimit -u)",
            cause: error, isTransient: true)
    }
}

/// What a new thread begins with.
private final class ThreadStart: @unchecked Sendable {
    // @unchecked: `body` is taken by the new thread alone.
    private let name: String
    private let thread: StartedThread
    private var body: (@Sendable () -> Void)?

    init(_ name: String, _ thread: StartedThread, _ body: @escaping @Sendable () -> Void) {
        self.name = name
        self.thread = thread
        self.body = body
    }

    func run() {
        thread.begin()
        mcfs_begin_thread(String(decoding: name.utf8.prefix(15), as: UTF8.self))
        body?()
        // What it holds is gone before anybody hears of the end.
        body = nil
        thread.end()
    }
}

/// Runs `body` with all signals blocked that are not about the thread itself; new threads inherit that.
private func blockingSignals<Result>(_ body: () -> Result) -> Result {
    var blocked = sigset_t()
    var previous = sigset_t()
    sigfillset(&blocked)
    for signal in [SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT] { sigdelset(&blocked, signal) }
    pthread_sigmask(SIG_SETMASK, &blocked, &previous)
    defer { pthread_sigmask(SIG_SETMASK, &previous, nil) }
    return body()
}
