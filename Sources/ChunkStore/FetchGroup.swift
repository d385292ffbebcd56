import MCFSCore
import Synchronization

/// The requests of one prefetch: how they went, and whether they are wanted still. Thread safe.
final class FetchGroup: Sendable {
    /// A source that is asked and gives nothing.
    struct Silent: Sendable {
        let source: any ByteSource
        let silence: SourceSilence
    }

    struct Failure: Sendable {
        let error: MCFSError
        let source: any ByteSource
    }

    private struct State {
        var running = 0
        var failure: Failure?
        /// Origins of which a request failed that may succeed later.
        var failedOrigins: Set<String> = []
        /// What was asked for and is under way.
        var active: [ObjectIdentifier: (source: any ByteSource, requests: Int)] = [:]
        var isCancelled = false
    }

    private let state = Guarded(State())

    /// Nobody waits for what has not begun: it is dropped, and what is under way ends at its next bytes.
    func cancel() { state.update { $0.isCancelled = true } }

    var isCancelled: Bool { state.withLock { $0.isCancelled } }

    func add(_ count: Int) { state.withLock { $0.running += count } }

    /// A request goes out.
    func began(_ source: any ByteSource) {
        state.withLock { state in
            state.active[ObjectIdentifier(source), default: (source, 0)].requests += 1
        }
    }

    /// Its bytes are there, or will not come.
    func finishedReading(_ source: any ByteSource) {
        state.withLock { state in
            guard let active = state.active[ObjectIdentifier(source)] else { return }
            state.active[ObjectIdentifier(source)] = active.requests > 1 ? (source, active.requests - 1) : nil
        }
    }

    /// A request was dealt with: every piece was stored or given up. `error`: why it failed, or why a piece could not be kept.
    func ended(_ error: MCFSError?, of source: any ByteSource) {
        state.update { state in
            state.running -= 1
            guard let error else { return }
            state.failure = state.failure ?? Failure(error: error, source: source)
            if error.isTransient { state.failedOrigins.insert(source.origin) }
        }
    }

    /// The first.
    var failure: Failure? { state.withLock { $0.failure } }

    func hasFailed(_ origin: String) -> Bool { state.withLock { $0.failedOrigins.contains(origin) } }

    /// - Returns: false where more are left after `duration`.
    func wait(untilRunning limit: Int, for duration: Duration) -> Bool {
        state.wait(until: Deadline(after: duration)) { $0.running <= limit ? true : nil } ?? false
    }

    /// What is waited for longest of what is under way.
    var silence: Silent? {
        let sources = state.withLock { $0.active.values.map(\.source) }
        let silent = sources.compactMap { source in source.silence.map { Silent(source: source, silence: $0) } }
        return silent.min { $0.silence.since < $1.silence.since }
    }

    private let bytes = Atomic<UInt64>(0)

    /// Bytes that came, kept or not.
    var received: UInt64 { bytes.load(ordering: .relaxed) }

    func receive(_ count: Int) { bytes.add(UInt64(count), ordering: .relaxed) }
}
