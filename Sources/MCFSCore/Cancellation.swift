internal import Synchronization

/// Tells those who wait that nobody wants what they wait for any more. Thread safe.
package final class Cancellation: Sendable {
    private struct State {
        var isCancelled = false
        var wakers: [UInt64: @Sendable () -> Void] = [:]
        var count: UInt64 = 0
    }

    private let state = Lock(State())

    package init() {}

    package var isCancelled: Bool { state.withLock { $0.isCancelled } }

    /// Ends every wait for a `Deadline` that this belongs to. Calling it again does nothing.
    package func cancel() {
        let wakers = state.withLock { state in
            defer { state.wakers = [:] }
            state.isCancelled = true
            return Array(state.wakers.values)
        }
        for wake in wakers { wake() }
    }

    /// Runs `body`; `wake` is called, on another thread, if `cancel` is meanwhile. Not called where it was before.
    func waking<Result>(_ wake: @escaping @Sendable () -> Void, _ body: () -> Result) -> Result {
        let number = state.withLock { state in
            state.count += 1
            if !state.isCancelled { state.wakers[state.count] = wake }
            return state.count
        }
        defer { state.withLock { _ = $0.wakers.removeValue(forKey: number) } }
        return body()
    }
}
