import MCFSCore

/// Bounds the bytes that were asked of origins and are not on disk yet. Reserved before the request goes out, on the thread
/// that makes it: nothing waits once bytes come.
final class MemoryBudget: Sendable {
    private struct State {
        var used: UInt64 = 0
        /// Who waits, in the order in which they came: a large range must not starve behind small ones.
        var waiting: [UInt64] = []
        var next: UInt64 = 0
    }

    private let bytesMax: UInt64
    private let state = Guarded(State())

    init(bytes: UInt64) { bytesMax = bytes }

    /// Waits until there is room. More than the whole budget is granted when nothing else is reserved.
    ///
    /// - Returns: nil at the deadline.
    func reserve(_ bytes: UInt64, until deadline: Deadline) -> Reservation? {
        let number = state.withLock { state in
            state.next += 1
            state.waiting.append(state.next)
            return state.next
        }
        let isGranted = state.wait(until: deadline) { [bytesMax] state -> Bool? in
            guard state.waiting.first == number, state.used == 0 || state.used + bytes <= bytesMax else { return nil }
            state.used += bytes
            return true
        }
        // The next one's turn.
        state.update { state in state.waiting.removeAll { $0 == number } }
        guard isGranted == true else { return nil }
        return Reservation(bytes) { [state] bytes in state.update { $0.used -= bytes } }
    }
}
