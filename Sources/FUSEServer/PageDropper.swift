internal import MCFSCore

/// Makes the kernel forget pages, on a thread of its own: that waits for reads in flight, which no thread may do that
/// answers requests. The thread exists while there is something to do.
final class PageDropper: Sendable {
    private struct State {
        var waiting: [UInt64] = []
        var isRunning = false
        var hasEnded = false
    }

    private let state = Guarded(State())
    private let drop: @Sendable (UInt64) -> Void

    /// - Parameter drop: makes the kernel forget the pages of a node; may block.
    init(drop: @escaping @Sendable (UInt64) -> Void) { self.drop = drop }

    func add(_ node: UInt64) {
        let needsThread = state.withLock { state -> Bool in
            if state.hasEnded { return false }
            state.waiting.append(node)
            defer { state.isRunning = true }
            return !state.isRunning
        }
        if needsThread, (try? startThread("mcfs-pages") { [self] in work() }) == nil {
            state.withLock { $0.isRunning = false }
        }
    }

    private func work() {
        while let node = next() { drop(node) }
    }

    private func next() -> UInt64? {
        state.update { state in
            if let node = state.waiting.popLast() { return node }
            state.isRunning = false
            return nil
        }
    }

    /// Forgets what waits.
    func end() {
        state.withLock { state in
            state.hasEnded = true
            state.waiting = []
        }
    }
}
