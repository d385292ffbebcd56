internal import ControlAPI
internal import MCFSCore
internal import Synchronization

/// What a mount asked of its origins, and whether they answer.
final class OriginTraffic: Sendable {
    private struct State {
        var counters = MountStatus.OriginTraffic()
        /// Sources that are being read.
        var active: [ObjectIdentifier: Active] = [:]
        /// By origin: the last request to it failed.
        var failures: [String: Failure] = [:]
    }

    private struct Active: Sendable {
        let source: any ByteSource
        var reads = 0
        /// Requests that the source had repeated when it was looked at last.
        var retriesBefore: UInt64

        var retries: UInt64 { source.retryCount - retriesBefore }
    }

    private struct Failure: Sendable {
        var since: ContinuousClock.Instant
        var count: UInt64
        var message: String
    }

    private let state = Lock(State())
    /// An origin that was silent for so long is said not to answer.
    private let patience: Duration
    private let now: @Sendable () -> ContinuousClock.Instant

    /// How long an origin may take to begin an answer before that is worth telling.
    private static let patienceMax = Duration.seconds(10)

    /// - Parameter readDeadline: of the mount's reads.
    init(
        readDeadline: Duration = .seconds(60),
        now: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now }
    ) {
        patience = min(Self.patienceMax, readDeadline)
        self.now = now
    }

    var counters: MountStatus.OriginTraffic {
        state.withLock { state in
            var counters = state.counters
            counters.retries += state.active.values.clampedSum(\.retries)
            return counters
        }
    }

    /// What is wrong with origins, a sentence each: they do not answer, requests to them are being repeated, or the last one
    /// failed. Empty once one got through again.
    var problems: [String] {
        let now = now()
        let (active, failures) = state.withLock { ($0.active.values.map(\.source), $0.failures) }
        var problems: [String: String] = [:]
        let silent = active.compactMap { source in source.silence.map { (source, $0) } }
        for (source, silence) in silent.sorted(by: { $0.1.since < $1.1.since }) where problems[source.origin] == nil {
            let duration = now - silence.since
            guard silence.tries > 1 || duration >= patience else { continue }
            let place = source.origin.isEmpty ? source.name : source.origin
            let requests = silence.tries <= 1 ? "1 request" : "\(silence.tries) requests"
            let reason = silence.error.map { ": \($0.message)" } ?? ""
            problems[source.origin] =
                "\(place) has not answered for \(Self.seconds(duration)), \(requests) so far; \(source.name) is waited for\(reason)"
        }
        for (origin, failure) in failures where problems[origin] == nil {
            let often = failure.count == 1 ? "" : " (\(failure.count) failures in \(Self.seconds(now - failure.since)))"
            problems[origin] = failure.message + often
        }
        return problems.sorted { $0.key < $1.key }.map(\.value)
    }

    private static func seconds(_ duration: Duration) -> String { "\(max(0, duration.components.seconds)) s" }

    func began(_ source: any ByteSource) {
        state.withLock { state in
            state.counters.requests += 1
            state.active[ObjectIdentifier(source), default: Active(source: source, retriesBefore: source.retryCount)]
                .reads += 1
        }
    }

    func received(_ count: Int) { state.withLock { $0.counters.bytes += UInt64(count) } }

    func ended(_ source: any ByteSource, _ error: MCFSError?) {
        let now = now()
        state.withLock { state in
            if var active = state.active[ObjectIdentifier(source)] {
                state.counters.retries += active.retries
                active.retriesBefore += active.retries
                active.reads -= 1
                state.active[ObjectIdentifier(source)] = active.reads > 0 ? active : nil
            }
            // Giving up is no fault of the origin.
            if let error, error.code == .cancelled { return }
            guard let error else {
                state.failures[source.origin] = nil
                return
            }
            state.counters.errors += 1
            let last = state.failures[source.origin]
            state.failures[source.origin] = Failure(
                since: last?.since ?? now, count: (last?.count ?? 0) + 1, message: error.message)
        }
    }
}

/// Counts what is asked of a source.
final class ObservedSource: ByteSource {
    private let base: any ByteSource
    private let traffic: OriginTraffic

    init(_ base: any ByteSource, traffic: OriginTraffic) {
        self.base = base
        self.traffic = traffic
    }

    var name: String { base.name }
    var origin: String { base.origin }
    var hasRandomAccess: Bool { base.hasRandomAccess }
    var isLocal: Bool { base.isLocal }
    var retryCount: UInt64 { base.retryCount }
    var silence: SourceSilence? { base.silence }

    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        traffic.began(base)
        do {
            try base.read(range, deadline: deadline, into: CountingSink(sink, traffic: traffic))
            traffic.ended(base, nil)
        } catch {
            traffic.ended(base, error)
            throw error
        }
    }
}

private final class CountingSink: ByteSink {
    private let base: any ByteSink
    private let traffic: OriginTraffic

    init(_ base: any ByteSink, traffic: OriginTraffic) {
        self.base = base
        self.traffic = traffic
    }

    func isFull(whenDrained: @escaping @Sendable () -> Void) -> Bool { base.isFull(whenDrained: whenDrained) }
    var isAbandoned: Bool { base.isAbandoned }

    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        traffic.received(bytes.count)
        try base.write(bytes)
    }
}

/// Stands for a source of a mount that must not use the network: every read fails at once.
final class OfflineSource: ByteSource {
    let name: String
    let hasRandomAccess = true

    init(name: String) { self.name = name }

    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        throw MCFSError(
            .originUnavailable,
            "these bytes of \(name) are not local and the mount is offline; mount it without --offline to fetch them")
    }
}
