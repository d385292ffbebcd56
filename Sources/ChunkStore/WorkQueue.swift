import MCFSCore

/// Threads that do short local work in the order given: writing chunks, hashing.
final class WorkQueue: Sendable {
    private struct State {
        var waiting: [(@Sendable () -> Void)?] = []
        var head = 0
        var hasEnded = false
        var running = 0
    }

    private let state = Guarded(State())
    /// How often nothing was left to do: for who waits for the end; the threads wait for `state`.
    private let drained = Guarded(0)

    /// - Throws: where the system gives no thread.
    init(_ name: String, threads: Int) throws(Errno) {
        for _ in 0..<max(1, threads) {
            try startThread(name) { [state, drained] in
                while let work = Self.next(state) {
                    work()
                    let isIdle = state.withLock { state in
                        state.running -= 1
                        return state.running == 0 && state.head == state.waiting.count
                    }
                    if isIdle { drained.update { $0 += 1 } }
                }
            }
        }
    }

    /// After the end nothing is done any more.
    func add(_ work: @escaping @Sendable () -> Void) {
        let dropped = state.withLock { state in
            if state.hasEnded { return true }
            state.waiting.append(work)
            return false
        }
        if !dropped { state.wakeOne() }
    }

    /// Waits until all that was added is done, or has begun and is done, then ends the threads.
    func end(dropsWaiting: Bool = false) {
        if dropsWaiting {
            // Goes outside of the lock.
            var dropped: [(@Sendable () -> Void)?] = []
            state.withLock { state in
                state.hasEnded = true
                swap(&dropped, &state.waiting)
                state.head = 0
            }
        }
        _ = drained.wait { _ in
            state.withLock { $0.head == $0.waiting.count && $0.running == 0 } ? true : nil
        }
        state.update { $0.hasEnded = true }
    }

    private static func next(_ state: Guarded<State>) -> (@Sendable () -> Void)? {
        state.wait { state -> (@Sendable () -> Void)?? in
            if state.head < state.waiting.count {
                let work = state.waiting[state.head]
                // What was done must not keep its chunk in memory until the queue is empty.
                state.waiting[state.head] = nil
                state.head += 1
                state.running += 1
                if state.head == state.waiting.count {
                    state.waiting.removeAll(keepingCapacity: state.head < 1024)
                    state.head = 0
                }
                return work
            }
            return state.hasEnded ? .some(nil) : nil
        } ?? nil
    }
}
