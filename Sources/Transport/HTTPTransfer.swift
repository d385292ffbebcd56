internal import MCFSCore

/// One exchange as the caller of `perform` and a loop's thread share it.
///
/// The loop calls out (`receive`, the sink) only between `enterCallback` and `leaveCallback`; a caller that gives up
/// waits for a call in progress and forbids any further one, so that nothing reaches a sink after `perform` ended.
final class HTTPTransfer: Sendable {
    typealias Receive = @Sendable (HTTPResponse) throws(MCFSError) -> (any ByteSink)?
    typealias Outcome = Result<HTTPResponse, MCFSError>

    private struct State {
        var outcome: Outcome?
        var isAbandoned = false
        var isInCallback = false
    }

    let request: HTTPRequest
    let receive: Receive
    /// How long the server may take to begin its answer.
    let firstByteTimeout: Duration
    let stallTimeout: Duration
    let meter: TrafficMeter?
    private let state = Guarded(State())

    init(
        _ request: HTTPRequest, firstByteTimeout: Duration, stallTimeout: Duration, meter: TrafficMeter?,
        receive: @escaping Receive
    ) {
        self.meter = meter
        self.request = request
        self.firstByteTimeout = firstByteTimeout
        self.stallTimeout = stallTimeout
        self.receive = receive
    }

    /// How it ended; nil where the deadline came first: it is abandoned then.
    func wait(until deadline: Deadline) -> Outcome? {
        if let outcome = state.wait(until: deadline, { $0.outcome }) { return outcome }
        return state.wait(until: nil) { state -> Outcome?? in
            state.isAbandoned = true
            return state.isInCallback ? .none : .some(state.outcome)
        } ?? nil
    }

    var isAbandoned: Bool { state.withLock { $0.isAbandoned } }

    /// - Returns: whether the loop may call out.
    func enterCallback() -> Bool {
        state.withLock { state in
            state.isInCallback = !state.isAbandoned
            return state.isInCallback
        }
    }

    func leaveCallback() {
        // Only somebody who abandons it waits for this.
        let isAwaited = state.withLock { state in
            state.isInCallback = false
            return state.isAbandoned
        }
        if isAwaited { state.update { _ in } }
    }

    func finish(_ outcome: Outcome) {
        state.update { $0.outcome = $0.outcome ?? outcome }
    }
}
