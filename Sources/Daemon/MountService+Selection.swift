internal import Catalog
internal import ChunkStore
internal import ControlAPI
internal import Logging
internal import MCFSCore

extension MountService {
    /// Small files: a header, a manifest, a tokenizer; one request fetches many of them.
    private static let autoPrefetchBytesMax: UInt64 = 1 << 20
    private static let listingBatch = 500

    // MARK: What a request means

    /// The part of a mount or of a reference's tree that `request` selects.
    func selection(
        _ request: SelectionRequest, mode: ReferenceLoader.Mode, job: Job
    ) throws(MCFSError) -> Selection {
        let filter = PathFilter(include: request.include, exclude: request.exclude)
        if let (mount, path) = mounts.mount(holding: request.target) {
            return try mount.selection(at: path, filter: filter)
        }
        let loaded = try loader.load(request.target, caller: request.caller, mode: mode, job: job)
        let merged = try MergedTree([loaded], offline: false, traffic: OriginTraffic())
        return try Selection(tree: merged.tree, sources: merged.sources, at: .root, filter: filter)
    }

    // MARK: ls

    func list(_ request: SelectionRequest, job: Job) throws(MCFSError) -> Empty {
        let selection = try selection(request, mode: .onlineIfPossible, job: job)
        var batch: [ListedEntry] = []
        let verdict = verdicts(of: selection, in: mounts.mount(holding: request.target)?.mount)
        selection.forEach(recursive: request.recursive) { entry, path in
            if job.isCancelled { return }
            batch.append(listed(entry, path, of: selection.tree, verdict(entry)))
            if batch.count == Self.listingBatch {
                job.list(batch)
                batch = []
            }
        }
        if !batch.isEmpty { job.list(batch) }
        return Empty()
    }

    private func listed(
        _ entry: Tree.Index, _ path: TreePath, of tree: Tree, _ verdict: String?
    ) -> ListedEntry {
        let attributes = tree.attributes(of: entry)
        let content = tree.content(of: entry)
        var listed = ListedEntry(
            path: path.description, type: "\(attributes.kind)", size: attributes.size,
            bytesLocal: content.map { cache.localBytes(of: $0.id, size: $0.size) } ?? 0,
            mode: String(attributes.permissions, radix: 8), modified: attributes.modified.seconds,
            target: attributes.kind == .symlink ? String(decoding: tree.target(of: entry), as: UTF8.self) : nil)
        listed.verdict = verdict
        return listed
    }

    // MARK: prefetch

    func prefetch(_ request: SelectionRequest, job: Job) throws(MCFSError) -> PrefetchResult {
        let started = ContinuousClock.now
        let stallTimeout = try Self.stallTimeout(request.stallSeconds)
        let contents = try shownSelection(request, job: job).fileContents()
        var id: Int?
        if request.background {
            // The tree is known and everything can be fetched: the rest needs no caller.
            _ = try begin("prefetch", request.target, endsWithCaller: false, onStart: { id = $0.id }) {
                [self] (job) throws(MCFSError) -> Empty in
                try prefetch(contents, stallTimeout, job)
                return Empty()
            }
        } else {
            try prefetch(contents, stallTimeout, job)
            try job.checkCancellation()
        }
        let seconds = ((ContinuousClock.now - started).inSeconds * 1000).rounded() / 1000
        return PrefetchResult(
            done: !request.background, bytes: contents.clampedSum(\.size), files: contents.count,
            seconds: seconds, job: id)
    }

    /// Longest time without a byte, unless the request says otherwise.
    private static let stallTimeout = Duration.seconds(300)

    private static func stallTimeout(_ seconds: Double?) throws(MCFSError) -> Duration {
        guard let seconds else { return stallTimeout }
        guard seconds > 0, seconds <= 30 * 86_400 else {
            throw MCFSError(
                .usage, "a prefetch cannot wait \(seconds) s for a byte: give a number of seconds up to 30 days")
        }
        return .milliseconds(Int64(seconds * 1000))
    }

    /// Who asked for it may cut the power next: it is on the disk, too.
    private func prefetch(
        _ contents: [FileContent], _ stallTimeout: Duration, _ job: Job
    ) throws(MCFSError) {
        try cache.prefetch(contents, progress: job, stallTimeout: stallTimeout, isCancelled: { job.isCancelled })
        cache.waitUntilSynced()
    }

    /// What shows of a mount; of a reference, what the request's GPUs run.
    private func shownSelection(_ request: SelectionRequest, job: Job) throws(MCFSError) -> Selection {
        var selection = try selection(request, mode: .onlineIfPossible, job: job)
        if let (mount, _) = mounts.mount(holding: request.target), request.gpu ?? ["auto"] == ["auto"] {
            if mount.hiddenDirectory(of: selection.top) != nil {
                throw MCFSError(
                    .notFound,
                    "\(request.target) is hidden on this host; 'mcfs explain' says why, and --gpu none fetches it all the same"
                )
            }
            selection.isLeftOut = mount.kernels.useless
            return selection
        }
        let gpus = try GPUChoice(request.gpu ?? ["none"], configured: configuration.gpu).gpus(of: hostGPUs)
        guard !gpus.isEmpty, let sources = selection.sources else { return selection }
        let view = try judge(tree: selection.tree, sources: sources, gpus: gpus, job: job).view
        selection.isLeftOut = view.useless
        return selection
    }

    /// Fetches ahead what shows of a mount; its failures are those of later reads and only logged.
    func prefetch(
        _ mount: Mount, mode: PrefetchMode, job: Job, isCancelled: @escaping @Sendable () -> Bool
    ) throws(MCFSError) {
        var all = try mount.selection(at: .root, filter: PathFilter(include: [], exclude: []))
        all.isLeftOut = mount.kernels.useless
        let contents = all.fileContents { mode == .all || $0.size <= Self.autoPrefetchBytesMax }
        try cache.prefetch(
            contents, progress: job, stallTimeout: Self.stallTimeout, isCancelled: isCancelled)
    }

    // MARK: evict, gc

    func evict(_ request: SelectionRequest, job: Job) throws(MCFSError) -> EvictResult {
        let ids = try selection(request, mode: .catalogFirst, job: job).contents()
        let pinned = try pinnedContents()
        var kept: UInt64 = 0
        var dropped: [ContentKey] = []
        for content in ids {
            let key = ContentKey(content.id, size: content.size)
            if pinned.contains(key) {
                kept.addClamped(cache.localBytes(of: content.id, size: content.size))
            } else {
                dropped.append(key)
            }
        }
        let freed = cache.evict(dropped)
        if kept > 0 { job.warn("what is pinned stays; use 'mcfs unpin' first to evict it") }
        return EvictResult(bytesFreed: freed, bytesUsed: cache.usage.bytesUsed, bytesKept: kept)
    }

    func collect(_ request: CollectRequest) -> EvictResult {
        let freed = cache.collect(downTo: request.bytesMax ?? configuration.cacheBytesMax)
        let used = cache.usage.bytesUsed
        let wanted = request.bytesMax ?? configuration.cacheBytesMax
        return EvictResult(bytesFreed: freed, bytesUsed: used, bytesKept: used > wanted ? used - wanted : 0)
    }
}
