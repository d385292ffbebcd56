import Glibc
package import MCFSCore

extension ChunkCache {
    /// Most ranges that one prefetch keeps waiting: the rest is planned as these are done.
    private static let jobsAheadMax = 32
    /// Files up to this size are fetched before larger ones, in bytes.
    private static let smallBytesMax: UInt64 = 1 << 20
    /// Most bytes that are claimed ahead of their fetch.
    private static let groupBytesMax: UInt64 = 256 << 20

    /// Makes `contents` local and blocks until that is done, failed or cancelled. `progress` gets bytes, and what is waited for
    /// where no bytes come. What the source gives up is asked for again as long as bytes come now and then.
    ///
    /// - Parameter stallTimeout: longest time without a byte; nil: that of a read.
    /// - Throws: the first error that retries did not mend, after the rest was tried; at once `noSpace` where the cache's bound is too small
    ///   for them or its disk is full; `originUnavailable` where no byte came for `stallTimeout`, or none can come in that
    ///   time; `cancelled`.
    package func prefetch(
        _ contents: [FileContent], progress: any ProgressReporter, stallTimeout: Duration? = nil,
        isCancelled: @escaping @Sendable () -> Bool
    ) throws(MCFSError) {
        let total = Self.sum(contents)
        guard total <= configuration.bytesMax else {
            throw MCFSError(
                .noSpace,
                "\(total) bytes do not fit into the cache of \(configuration.bytesMax) bytes; raise --cache-size or choose less with --include"
            )
        }
        let timeout = stallTimeout ?? configuration.readDeadline
        var stall = Stall(local: localBytes(of: contents), timeout: timeout)
        while true {
            let missing = contents.filter { !isLocal($0) }
            if missing.isEmpty { break }
            if isCancelled() { throw Self.cancelled }
            let group = FetchGroup()
            // Also where this throws: what has not begun is not wanted any more.
            defer { group.cancel() }
            try fetch(missing, group) { [self] () throws(MCFSError) in
                if isCancelled() { throw Self.cancelled }
                let local = localBytes(of: contents)
                stall.note(local, received: group.received)
                let silence = group.silence
                progress.report(phase: Self.phase(silence), done: local, total: total)
                if stall.hasPassed { throw Self.stalled(timeout, silence.map(Self.reason)) }
            }
            let failure = group.failure
            // It is no use to fetch what cannot be kept.
            if let failure, failure.error.isFullDisk { throw failure.error }
            if stall.note(localBytes(of: contents), received: group.received) { continue }
            if let failure {
                let error = failure.error
                // Not before a time, or the source has tried for long: again while there is time.
                let rest = stall.deadline.remaining
                guard error.isTransient, error.retryAfter ?? .zero < rest || stall.hasPassed else { throw error }
                if stall.hasPassed { throw Self.stalled(timeout, error.message) }
                progress.report(
                    phase: "waiting for \(failure.source.place): \(error.message)", done: localBytes(of: contents),
                    total: total)
                try pause(min(error.retryAfter ?? Self.roundPause, rest), isCancelled)
                continue
            }
            // What others fetch, or what is being checked, comes when they are done with it.
            if stall.hasPassed { throw MCFSError(.timedOut, "no more bytes could be made local", isTransient: true) }
            usleep(50_000)
        }
        progress.report(phase: "fetching", done: total, total: total)
        if let content = contents.first(where: { !$0.id.fits(size: $0.size) }) {
            throw MCFSError(
                .corrupt, "\(content.id) has \(content.size) bytes, says its origin, which is not what it is")
        }
    }

    /// How long no bytes came.
    private struct Stall {
        /// Most that was local.
        private var local: UInt64
        private var received: UInt64 = 0
        private let timeout: Duration
        private(set) var deadline: Deadline

        init(local: UInt64, timeout: Duration) {
            self.local = local
            self.timeout = timeout
            deadline = Deadline(after: timeout)
        }

        var hasPassed: Bool { deadline.hasPassed }

        /// - Parameter received: bytes of this round.
        /// - Returns: whether more is local than ever before.
        @discardableResult
        mutating func note(_ local: UInt64, received: UInt64) -> Bool {
            let hasGrown = local > self.local
            if hasGrown || received > self.received { deadline = Deadline(after: timeout) }
            self.local = max(self.local, local)
            self.received = received
            return hasGrown
        }
    }

    /// Before what a source gave up is asked for again.
    private static let roundPause = Duration.seconds(2)
    /// Silence is normal for so long.
    private static let silenceMax = Duration.seconds(5)
    private static let cancelled = MCFSError(.cancelled, "the prefetch was cancelled")

    private static func phase(_ silent: FetchGroup.Silent?) -> String {
        guard let silent else { return "fetching" }
        let duration = ContinuousClock.now - silent.silence.since
        guard silent.silence.tries > 1 || duration >= silenceMax else { return "fetching" }
        return "waiting for \(silent.source.place), try \(max(1, silent.silence.tries)): \(reason(silent))"
    }

    private static func reason(_ silent: FetchGroup.Silent) -> String {
        let duration = ContinuousClock.now - silent.silence.since
        return silent.silence.error?.message
            ?? "\(silent.source.place) has not answered for \(duration.components.seconds) s"
    }

    private static func stalled(_ timeout: Duration, _ reason: String?) -> MCFSError {
        MCFSError(
            .originUnavailable,
            "no bytes came for \(timeout.components.seconds) s: \(reason ?? "nothing more could be made local"); what is local stays, run it again to go on",
            isTransient: true)
    }

    private func pause(_ duration: Duration, _ isCancelled: () -> Bool) throws(MCFSError) {
        let deadline = Deadline(after: duration)
        while !deadline.hasPassed {
            if isCancelled() { throw Self.cancelled }
            // In steps: a job that is cancelled wakes nobody here.
            usleep(UInt32(clamping: min(deadline.remaining, .milliseconds(500)).milliseconds * 1000))
        }
    }

    private func isLocal(_ content: FileContent) -> Bool {
        guard localBytes(of: content.id, size: content.size) == content.size else { return false }
        return table.useIfActive(content.key)?.blob.isComplete ?? true
    }

    private func localBytes(of contents: [FileContent]) -> UInt64 {
        contents.clampedSum { localBytes(of: $0.id, size: $0.size) }
    }

    private static let lookInterval = Duration.milliseconds(500)

    /// Fetches what is missing and unclaimed. `look` is called every half second, and ends it by throwing: it counts what is
    /// local of a hundred thousand files.
    private func fetch(
        _ contents: [FileContent], _ group: FetchGroup, _ look: () throws(MCFSError) -> Void
    ) throws(MCFSError) {
        var lastLook = ContinuousClock.now
        func lookIfDue() throws(MCFSError) {
            guard ContinuousClock.now - lastLook >= Self.lookInterval else { return }
            lastLook = .now
            try look()
        }
        func wait(untilRunning limit: Int) throws(MCFSError) {
            while !group.wait(untilRunning: limit, for: Self.lookInterval) { try lookIfDue() }
        }
        // Small ones first, of all sources: configurations, tokenizers and kernels are asked for before weights. What can only
        // be streamed is read once, whatever its size.
        let isSmall = { (content: FileContent) in
            content.size <= Self.smallBytesMax && content.source.hasRandomAccess
        }
        let parts = Self.grouped(contents.filter(isSmall)) + Self.grouped(contents.filter { !isSmall($0) })
        for part in parts {
            // The rest of an origin that does not answer has to wait for the next round; others go on.
            if group.failure != nil, let first = part.first, group.hasFailed(first.source.origin) { continue }
            let jobs = planner.jobs(prefetching: part, for: group)
            group.add(jobs.count)
            schedule(jobs)
            try lookIfDue()
            try wait(untilRunning: Self.jobsAheadMax)
            if group.failure?.error.isFullDisk ?? false { break }
        }
        try wait(untilRunning: 0)
    }

    /// Contents of one source, in the order of their offsets, in groups of a bounded sum.
    private static func grouped(_ contents: [FileContent]) -> [[FileContent]] {
        var groups: [[FileContent]] = []
        var bytes: UInt64 = 0
        let bySource = Dictionary(grouping: contents) { ObjectIdentifier($0.source) }.values
        for ofSource in bySource.sorted(by: { sum($0) < sum($1) }) {
            for content in ofSource.sorted(by: { $0.offset < $1.offset }) {
                // A stream is read once: all that is wanted of it goes into one group.
                let fits = bytes < groupBytesMax || !content.source.hasRandomAccess
                if let last = groups.last?.last, last.source === content.source, fits {
                    groups[groups.count - 1].append(content)
                } else {
                    groups.append([content])
                    bytes = 0
                }
                bytes.addClamped(content.size)
            }
        }
        return groups
    }

    private static func sum(_ contents: [FileContent]) -> UInt64 { contents.clampedSum { $0.size } }
}

extension MCFSError {
    /// Not the cache's bound, below which there may be room again.
    fileprivate var isFullDisk: Bool { code == .noSpace && cause is Errno }
}

extension ByteSource {
    /// Who is asked, for messages.
    fileprivate var place: String { origin.isEmpty ? name : origin }
}
