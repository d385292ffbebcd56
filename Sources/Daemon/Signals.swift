internal import Glibc

/// The signals that the daemon's main thread waits for. They are blocked in every thread, so that none interrupts a
/// reader and none is lost.
struct Signals {
    enum Event {
        /// SIGTERM, SIGINT.
        case end
        /// SIGHUP.
        case refresh
        /// Somebody changed what the main thread looks at.
        case wake
        case timeout
    }

    private static let wakeSignal = SIGUSR1

    private var set = sigset_t()

    /// To be called before the first other thread is started; threads inherit the mask.
    init() {
        sigemptyset(&set)
        for signal in [SIGTERM, SIGINT, SIGHUP, Self.wakeSignal] { sigaddset(&set, signal) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
        signal(SIGPIPE, SIG_IGN)
        // A file that would get longer than the process may write (`ulimit -f`) is EFBIG for the one write.
        signal(SIGXFSZ, SIG_IGN)
    }

    static func wake() { kill(getpid(), wakeSignal) }

    mutating func wait(milliseconds: Int) -> Event {
        var time = timespec(tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000)
        switch sigtimedwait(&set, nil, &time) {
        case SIGTERM, SIGINT: return .end
        case SIGHUP: return .refresh
        case Self.wakeSignal: return .wake
        default: return .timeout
        }
    }
}
