internal import MCFSCore

/// Threads for requests that wait for bytes or for the disk, which no thread may do that answers all others. As many as
/// are needed, up to a bound; what comes then waits for its turn.
final class WaitingThreads: Sendable {
    private struct State {
        var waiting: [@Sendable () -> Void] = []
        var running = 0
    }

    private static let threadsMax = 16

    private let name: String
    private let state = Guarded(State())

    init(_ name: String) { self.name = name }

    func run(_ body: @escaping @Sendable () -> Void) {
        let needsThread = state.withLock { state -> Bool in
            state.waiting.append(body)
            guard state.running < Self.threadsMax else { return false }
            state.running += 1
            return true
        }
        if needsThread, (try? startThread(name) { [self] in work() }) == nil { state.withLock { $0.running -= 1 } }
    }

    private func work() {
        while let body = next() { body() }
    }

    private func next() -> (@Sendable () -> Void)? {
        state.withLock { state in
            if !state.waiting.isEmpty { return state.waiting.removeFirst() }
            state.running -= 1
            return nil
        }
    }
}
