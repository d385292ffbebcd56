/// How requests come to one thread that takes them: whether it finds them waiting, or waits for them.
///
/// A program that sends one request after the other never has two that wait, but where it runs on the same processor, its
/// next one is often there when the thread comes to take it: the answer to the last one woke the program, which went first.
/// So what counts as waiting are requests of another thread than the one before, and reads, which the kernel sends ahead.
struct RequestPace {
    enum Need {
        /// As many threads as there are.
        case same
        /// Requests pile up.
        case more
        /// The thread waits so much that another one can do its work.
        case fewer
    }

    /// A request that takes less was there already. A program that waits for an answer needs longer to send its next one.
    static let waitNanosecondsMin = 3000
    /// Requests in a row that were there already.
    static let queuedMax = 8
    /// Requests in a row, but for some that follow each other closely, that were waited for.
    static let awaitedMax = 32

    private var queued = 0
    private var awaited = 0
    private var lastThread: UInt32?

    /// A request came after a wait.
    mutating func took(_ request: RequestHeader, afterNanoseconds wait: Int) -> Need {
        let wasThere = wait < Self.waitNanosecondsMin
        if wasThere && request.isUnawaited { return .same }
        let isOfAnother = request.thread == 0 || lastThread != nil && request.thread != lastThread
        if !request.isUnawaited { lastThread = request.thread }
        if wasThere && (isOfAnother || request.operation == .read) {
            queued += 1
            guard queued >= Self.queuedMax else { return .same }
            begin()
            return .more
        }
        queued = 0
        awaited += 1
        guard awaited >= Self.awaitedMax else { return .same }
        begin()
        return .fewer
    }

    private mutating func begin() {
        queued = 0
        awaited = 0
    }
}
