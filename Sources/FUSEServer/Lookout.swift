internal import MCFSCore
internal import Synchronization

/// A thread that looks now and then at what may get stuck, as long as there is something to look at.
final class Lookout: Sendable {
    private struct State {
        /// Each looks at its own, quickly, and says whether to look again.
        var looks: [@Sendable () -> Bool] = []
        var hasEnded = false
    }

    private static let interval = Duration.milliseconds(50)

    private let state = Guarded(State())
    /// Whoever makes something to look at does so before it reads this; the thread clears it before it looks.
    private let isAwake = Atomic<Bool>(false)

    /// Before `start`.
    func add(_ look: @escaping @Sendable () -> Bool) { state.withLock { $0.looks.append(look) } }

    func start() throws(Errno) { try startThread("mcfs-lookout") { [self] in work() } }

    /// There is something to look at. Costs next to nothing where that is known.
    func wake() {
        if isAwake.load(ordering: .sequentiallyConsistent) { return }
        state.update { _ in isAwake.store(true, ordering: .sequentiallyConsistent) }
    }

    func end() { state.update { $0.hasEnded = true } }

    private func work() {
        while let looks = waitForLooks() {
            isAwake.store(false, ordering: .sequentiallyConsistent)
            var looksAgain = false
            for look in looks where look() { looksAgain = true }
            if looksAgain { isAwake.store(true, ordering: .sequentiallyConsistent) }
            state.wait(until: Deadline(after: Self.interval)) { $0.hasEnded ? true : nil }
        }
    }

    /// nil at the end.
    private func waitForLooks() -> [@Sendable () -> Bool]? {
        let looks = state.wait { state -> [@Sendable () -> Bool]? in
            if state.hasEnded { return [] }
            return isAwake.load(ordering: .sequentiallyConsistent) ? state.looks : nil
        }
        guard let looks, !looks.isEmpty else { return nil }
        return looks
    }
}
