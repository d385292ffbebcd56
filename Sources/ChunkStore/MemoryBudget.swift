import MCFSCore

/// Bounds the bytes that were asked of origins and are not on disk yet. Reserved before the request goes out, on the thread
/// that makes it: nothing waits once bytes come.
///
/// A quarter more is for origins that hold little: one whose bytes do not come must not keep others waiting.
final class MemoryBudget: Sendable {
    private struct State {
        var used: UInt64 = 0
        var usedBy: [String: UInt64] = [:]
        /// Who waits, in the order in which they came: a large range must not starve behind small ones of its origin.
        var waiting: [(number: UInt64, origin: String, bytes: UInt64)] = []
        var next: UInt64 = 0
    }

    private let bytesMax: UInt64
    private let state = Guarded(State())

    init(bytes: UInt64) { bytesMax = bytes }

    /// Waits until there is room. More than the whole budget is granted when nothing else is reserved.
    ///
    /// - Parameter origin: who will send them.
    /// - Returns: nil at the deadline.
    func reserve(_ bytes: UInt64, for origin: String, until deadline: Deadline) -> Reservation? {
        let number = state.withLock { state in
            state.next += 1
            state.waiting.append((state.next, origin, bytes))
            return state.next
        }
        let isGranted = state.wait(until: deadline) { [bytesMax] state -> Bool? in
            let held = state.usedBy[origin] ?? 0
            // What never fits beside others must be let through once.
            let first = state.waiting.first { $0.origin == origin || $0.bytes > bytesMax }
            let limit = held + bytes <= bytesMax / 8 ? bytesMax.addingClamped(bytesMax / 4) : bytesMax
            guard first?.number == number, state.used == 0 || state.used + bytes <= limit else { return nil }
            state.used += bytes
            state.usedBy[origin] = held + bytes
            return true
        }
        // The next one's turn.
        state.update { state in state.waiting.removeAll { $0.number == number } }
        guard isGranted == true else { return nil }
        return Reservation(bytes) { [state] bytes in
            state.update { state in
                state.used -= bytes
                let rest = (state.usedBy[origin] ?? bytes) - bytes
                state.usedBy[origin] = rest > 0 ? rest : nil
            }
        }
    }
}
