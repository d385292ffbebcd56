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

    init(_ name: String, threads: Int) throws(Errno) {
        for _ in 0..<threads {
            try startThread(name) { [state] in
                while let work = Self.next(state) {
                    work()
                    state.update { $0.running -= 1 }
                }
            }
        }
    }

    func add(_ work: @escaping @Sendable () -> Void) { state.update { $0.waiting.append(work) } }

    /// Waits until all that was added is done, then ends the threads.
    func end() {
        _ = state.wait { state in state.head == state.waiting.count && state.running == 0 ? true : nil }
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
