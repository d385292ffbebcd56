import Glibc
package import MCFSCore

extension ChunkCache {
    /// Most ranges that one prefetch keeps waiting: the rest is planned as these are done.
    private static let jobsAheadMax = 32
    /// Files up to this size are fetched before larger ones, in bytes.
    private static let smallBytesMax: UInt64 = 1 << 20
    /// Most bytes that are claimed ahead of their fetch.
    private static let groupBytesMax: UInt64 = 256 << 20

    /// Makes `contents` local and blocks until that is done, failed or cancelled. `progress` gets bytes.
    ///
    /// - Throws: the first error that retries did not mend, after the rest was tried; at once `noSpace` where the cache's bound is too small
    ///   for them or its disk is full; `cancelled`.
    package func prefetch(
        _ contents: [FileContent], progress: any ProgressReporter, isCancelled: @escaping @Sendable () -> Bool
    ) throws(MCFSError) {
        let total = Self.sum(contents)
        guard total <= configuration.bytesMax else {
            throw MCFSError(
                .noSpace,
                "\(total) bytes do not fit into the cache of \(configuration.bytesMax) bytes; raise --cache-size or choose less with --include"
            )
        }
        var stalledUntil: Deadline?
        var local = localBytes(of: contents)
        while true {
            let missing = contents.filter { !isLocal($0) }
            if missing.isEmpty { break }
            let error = try fetch(missing) { [self] in
                progress.report(phase: "fetching", done: localBytes(of: contents), total: total)
                return isCancelled()
            }
            // It is no use to fetch what cannot be kept.
            if let error, error.isFullDisk { throw error }
            let now = localBytes(of: contents)
            if now > local {
                local = now
                stalledUntil = nil
                continue
            }
            // What others fetch, or what is being checked, comes when they are done with it.
            if let error { throw error }
            let deadline = stalledUntil ?? Deadline(after: configuration.readDeadline)
            stalledUntil = deadline
            if deadline.hasPassed { throw MCFSError(.timedOut, "no more bytes could be made local", isTransient: true) }
            usleep(50_000)
        }
        progress.report(phase: "fetching", done: total, total: total)
        if let content = contents.first(where: { !$0.id.fits(size: $0.size) }) {
            throw MCFSError(
                .corrupt, "\(content.id) has \(content.size) bytes, says its origin, which is not what it is")
        }
    }

    private func isLocal(_ content: FileContent) -> Bool {
        guard localBytes(of: content.id, size: content.size) == content.size else { return false }
        return table.useIfActive(content.key)?.blob.isComplete ?? true
    }

    private func localBytes(of contents: [FileContent]) -> UInt64 {
        contents.clampedSum { localBytes(of: $0.id, size: $0.size) }
    }

    /// Fetches what is missing and unclaimed. `isCancelled` is asked every half second.
    private func fetch(_ contents: [FileContent], _ isCancelled: () -> Bool) throws(MCFSError) -> MCFSError? {
        let state = Guarded((running: 0, error: MCFSError?.none))
        let ended: @Sendable (MCFSError?) -> Void = { error in
            state.update { state in
                state.running -= 1
                if let error { state.error = state.error ?? error }
            }
        }
        func waitUntilRunning(atMost limit: Int) throws(MCFSError) {
            while state.wait(until: Deadline(after: .milliseconds(500)), { $0.running <= limit ? true : nil }) == nil {
                // What is claimed goes on; it is bounded.
                if isCancelled() { throw MCFSError(.cancelled, "the prefetch was cancelled") }
            }
        }
        // Small ones first, of all sources: configurations, tokenizers and kernels are asked for before weights. What can only
        // be streamed is read once, whatever its size.
        let isSmall = { (content: FileContent) in
            content.size <= Self.smallBytesMax && content.source.hasRandomAccess
        }
        let groups = Self.grouped(contents.filter(isSmall)) + Self.grouped(contents.filter { !isSmall($0) })
        for group in groups {
            let jobs = planner.jobs(prefetching: group, ended: ended)
            state.withLock { $0.running += jobs.count }
            schedule(jobs)
            if isCancelled() { throw MCFSError(.cancelled, "the prefetch was cancelled") }
            try waitUntilRunning(atMost: Self.jobsAheadMax)
            if state.withLock({ $0.error?.isFullDisk ?? false }) { break }
        }
        try waitUntilRunning(atMost: 0)
        return state.withLock { $0.error }
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
