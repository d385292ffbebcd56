/// How requests come to one thread that takes them: whether it finds them waiting, or waits for them.
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

    /// A request came after a wait.
    mutating func took(afterNanoseconds wait: Int) -> Need {
        if wait < Self.waitNanosecondsMin {
            queued += 1
            guard queued >= Self.queuedMax else { return .same }
            self = RequestPace()
            return .more
        }
        queued = 0
        awaited += 1
        guard awaited >= Self.awaitedMax else { return .same }
        self = RequestPace()
        return .fewer
    }
}
