internal import ControlAPI
internal import MCFSCore
internal import Synchronization

/// What a mount asked of its origins, and whether they answer.
final class OriginTraffic: Sendable {
    private struct State {
        var counters = MountStatus.OriginTraffic()
        var problem: String?
        /// Sources that are being read.
        var active: [ObjectIdentifier: Active] = [:]
    }

    private struct Active: Sendable {
        let source: any ByteSource
        var reads = 0
        /// Requests that the source had repeated when it was looked at last.
        var retriesBefore: UInt64

        var retries: UInt64 { source.retryCount - retriesBefore }
    }

    private let state = Lock(State())

    var counters: MountStatus.OriginTraffic {
        state.withLock { state in
            var counters = state.counters
            counters.retries += state.active.values.clampedSum(\.retries)
            return counters
        }
    }

    /// Why the last request failed, or that requests are being repeated; nil once one got through again.
    var problem: String? {
        state.withLock { state in
            guard let waited = state.active.values.max(by: { $0.retries < $1.retries }), waited.retries > 0 else {
                return state.problem
            }
            return
                "\(waited.source.name) is waited for: requests failed and are made again, \(waited.retries) times so far"
        }
    }

    func began(_ source: any ByteSource) {
        state.withLock { state in
            state.counters.requests += 1
            state.active[ObjectIdentifier(source), default: Active(source: source, retriesBefore: source.retryCount)]
                .reads += 1
        }
    }

    func received(_ count: Int) { state.withLock { $0.counters.bytes += UInt64(count) } }

    func ended(_ source: any ByteSource, _ error: MCFSError?) {
        state.withLock { state in
            if var active = state.active[ObjectIdentifier(source)] {
                state.counters.retries += active.retries
                active.retriesBefore += active.retries
                active.reads -= 1
                state.active[ObjectIdentifier(source)] = active.reads > 0 ? active : nil
            }
            // Giving up is no fault of the origin.
            if let error, error.code == .cancelled { return }
            state.problem = error?.message
            if error != nil { state.counters.errors += 1 }
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
    var hasRandomAccess: Bool { base.hasRandomAccess }
    var isLocal: Bool { base.isLocal }
    var retryCount: UInt64 { base.retryCount }

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
