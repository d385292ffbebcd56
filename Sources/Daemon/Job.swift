internal import ControlAPI
internal import MCFSCore
internal import Origins
internal import Synchronization

/// One request that may take long: its progress, its cancellation, and the events that its caller sees. Thread safe.
final class Job: ProgressReporter, Sendable {
    /// What the caller gets next.
    enum Output: Sendable {
        /// A line of JSON with its newline.
        case line([UInt8])
        /// The last event: an error. Kept apart from its line so that one that comes first becomes the HTTP status.
        case failure(MCFSError)
    }

    private struct State {
        var progress = Progress(phase: "starting", done: 0, total: nil)
        var lastReport = ContinuousClock.now
    }

    /// `kind` of what the daemon mounts again by itself.
    static let restoring = "restore"

    let id: Int
    let kind: String
    let target: String
    /// Of all that blocks for it.
    let cancellation = Cancellation()
    private let began = ContinuousClock.now
    private let outcome = Guarded(Result<Void, MCFSError>?.none)
    private let state = Lock(State())
    private let output: AsyncStream<Output>.Continuation

    /// Reports closer together than this are left out.
    private static let reportInterval = Duration.milliseconds(100)

    /// - Parameter endsWithCaller: whether the work is given up when nobody listens any more.
    init(id: Int, kind: String, target: String, endsWithCaller: Bool, output: AsyncStream<Output>.Continuation) {
        self.id = id
        self.kind = kind
        self.target = Reference.withoutPassword(target)
        self.output = output
        if endsWithCaller {
            output.onTermination = { [weak self] reason in
                if case .cancelled = reason { self?.cancel() }
            }
        }
    }

    var status: JobStatus {
        JobStatus(
            id: id, kind: kind, target: target, progress: state.withLock { $0.progress },
            seconds: ((ContinuousClock.now - began).inSeconds * 10).rounded() / 10)
    }

    var isCancelled: Bool { cancellation.isCancelled }

    func cancel() { cancellation.cancel() }

    /// - Throws: `cancelled` once the caller is gone or the daemon ends.
    func checkCancellation() throws(MCFSError) {
        if isCancelled { throw MCFSError(.cancelled, "\(kind) of \(target) was given up") }
    }

    func report(phase: String, done: UInt64, total: UInt64?) {
        let progress = Progress(phase: phase, done: done, total: total)
        let isDue = state.withLock { state in
            let now = ContinuousClock.now
            let isNews = state.progress.phase != phase || now - state.lastReport >= Self.reportInterval
            state.progress = progress
            if isNews { state.lastReport = now }
            return isNews
        }
        if isDue { send(Event<Empty>(progress: progress)) }
    }

    /// Shows the caller that the work goes on; called about once a second.
    func heartbeat() {
        send(Event<Empty>(progress: state.withLock { $0.progress }))
    }

    func warn(_ message: String) { send(Event<Empty>(warning: message)) }

    func list(_ entries: [ListedEntry]) { send(Event<Empty>(entries: entries)) }

    func finish<Value: Codable & Sendable>(_ result: Result<Value, MCFSError>) {
        outcome.update { $0 = result.map { _ in } }
        switch result {
        case .success(let value): send(Event(result: value))
        case .failure(let error): output.yield(.failure(error))
        }
        output.finish()
    }

    /// Blocks until it has ended, or for so long. - Returns: nil where it goes on.
    func wait(_ duration: Duration) -> Result<Void, MCFSError>? {
        outcome.wait(until: Deadline(after: duration)) { $0 }
    }

    private func send<Value>(_ event: Event<Value>) {
        guard let line = try? JSON.line(event) else { return }
        output.yield(.line(line + [UInt8(ascii: "\n")]))
    }
}

/// The jobs that run now, and those that ended lately. Thread safe.
final class JobList: Sendable {
    private struct State {
        var number = 0
        var running: [Int: Job] = [:]
        /// Oldest first.
        var ended: [Job] = []
    }

    /// Jobs that are remembered, for who comes late to wait for one.
    private static let endedMax = 64

    private let state = Lock(State())

    /// In the order in which they began.
    var all: [Job] { state.withLock { $0.running.values.sorted { $0.id < $1.id } } }
    var isEmpty: Bool { state.withLock { $0.running.isEmpty } }

    func nextID() -> Int {
        state.withLock { state in
            state.number += 1
            return state.number
        }
    }

    func add(_ job: Job) { state.withLock { $0.running[job.id] = job } }

    func remove(_ job: Job) {
        // Goes outside of the lock.
        let oldest = state.withLock { state -> Job? in
            guard state.running.removeValue(forKey: job.id) != nil else { return nil }
            state.ended.append(job)
            return state.ended.count > Self.endedMax ? state.ended.removeFirst() : nil
        }
        withExtendedLifetime(oldest) {}
    }

    /// - Throws: `notFound`.
    func job(_ id: Int) throws(MCFSError) -> Job {
        guard let job = state.withLock({ state in state.running[id] ?? state.ended.last { $0.id == id } }) else {
            throw MCFSError(.notFound, "there is no job \(id); 'mcfs jobs' lists those that run")
        }
        return job
    }
}
