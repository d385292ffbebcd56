internal import MCFSCore

/// Threads for requests that wait for bytes or for the disk, which no thread may do that answers all others. As many as
/// are needed, up to a bound; what comes then waits for its turn. One is always there: what is begun here never depends on
/// whether the system has a thread left.
final class WaitingThreads: Sendable {
    private struct State {
        /// From `first` on; what is before it was taken.
        var queue: [@Sendable () -> Void] = []
        var first = 0
        var threads = 0
        /// Only the one that stays is ever idle.
        var isIdle = false
        var hasEnded = false

        var waitingCount: Int { queue.count - first }

        mutating func take() -> @Sendable () -> Void {
            defer {
                first += 1
                if 2 * first > queue.count {
                    queue.removeFirst(first)
                    first = 0
                }
            }
            return queue[first]
        }
    }

    private let name: String
    private let threadsMax: Int
    private let state = Guarded(State())

    init(_ name: String, threadsMax: Int = 16) {
        self.name = name
        self.threadsMax = threadsMax
    }

    /// Makes the thread that stays.
    func start() throws(Errno) {
        state.withLock { $0.threads += 1 }
        do throws(Errno) { try startThread(name) { [self] in work(stays: true) } } catch {
            state.withLock { $0.threads -= 1 }
            throw error
        }
    }

    func run(_ body: @escaping @Sendable () -> Void) {
        let needsThread = state.withLock { state -> Bool in
            state.queue.append(body)
            guard state.waitingCount > (state.isIdle ? 1 : 0), state.threads < threadsMax else { return false }
            state.threads += 1
            return true
        }
        state.wakeOne()
        if needsThread, (try? startThread(name) { [self] in work(stays: false) }) == nil {
            state.withLock { $0.threads -= 1 }
        }
    }

    /// Forgets what waits; the threads end with what they are at.
    func end() {
        state.update { state in
            state.queue = []
            state.first = 0
            state.hasEnded = true
        }
    }

    private func work(stays: Bool) {
        while let body = next(waits: stays) { body() }
        state.withLock { $0.threads -= 1 }
    }

    private func next(waits: Bool) -> (@Sendable () -> Void)? {
        state.wait { state -> (@Sendable () -> Void)?? in
            if waits { state.isIdle = state.waitingCount == 0 }
            if state.waitingCount > 0 { return state.take() }
            guard !waits || state.hasEnded else { return nil }
            return .some(nil)
        } ?? nil
    }
}
