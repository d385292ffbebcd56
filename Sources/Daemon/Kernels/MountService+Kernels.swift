internal import Catalog
internal import ChunkStore
internal import ControlAPI
internal import GPUCompat
internal import KernelCaches
internal import Logging
internal import MCFSCore
internal import MountFS

/// What kernels need, of mounts and of references.
extension MountService {
    // MARK: Mounts

    /// A few kernels are judged before a mount is said to be there, if their origin answers at once.
    private static let fewKernels = 2000
    private static let mountPatience = Duration.milliseconds(200)
    /// Who asks for a refresh waits for the metadata of its kernels, but not for an origin that does not answer.
    private static let refreshPatience = Duration.seconds(5)

    /// Reads what the kernels of a mount need, judges them, and then fetches ahead what shows and was asked for. Waits a
    /// moment for the judgement.
    func settle(_ mount: Mount, prefetch mode: PrefetchMode) {
        let undescribed = mount.kernels.undescribed.count
        if undescribed == 0 && mode == .none { return mount.endReadingKernels() }
        describe(mount, prefetch: mode)
        if 1...Self.fewKernels ~= undescribed { mount.waitForKernels(Self.mountPatience) }
    }

    /// The same where whoever mounts waits for what is fetched ahead: if that fails, the mount goes.
    func settle(_ mount: Mount, waitingFor mode: PrefetchMode, job: Job) throws(MCFSError) {
        settle(mount, prefetch: .none)
        do throws(MCFSError) {
            while !mount.waitForKernels(.milliseconds(500)) { try job.checkCancellation() }
            try prefetch(mount, mode: mode, job: job) { job.isCancelled }
            cache.waitUntilSynced()
            try job.checkCancellation()
        } catch {
            do throws(MCFSError) {
                try unmount(UnmountRequest(mountpoint: mount.mountpoint, force: true), job: job)
            } catch {
                logger.warning(
                    "a mount whose prefetch failed could not be taken away",
                    metadata: ["mountpoint": "\(mount.mountpoint)", "reason": "\(error.message)"])
            }
            throw error
        }
    }

    /// Reads what the kernels of a mount need, in a job. Nobody else reads them: see `Mount.beginReadingKernels`.
    private func describe(_ mount: Mount, prefetch mode: PrefetchMode) {
        let work: @Sendable (Job) throws(MCFSError) -> Empty = { [self] job throws(MCFSError) in
            let isCancelled: @Sendable () -> Bool = {
                job.isCancelled || self.mounts.mount(at: mount.mountpoint) !== mount
            }
            do throws(MCFSError) {
                try mount.readKernels(
                    reader(of: mount), host: hostGPUs, progress: job, isCancelled: isCancelled)
            } catch {
                // They show; whoever asks for a refresh asks for these, too.
                logger.warning(
                    "it is not known what some kernels need",
                    metadata: ["mountpoint": "\(mount.mountpoint)", "reason": "\(error.message)"])
            }
            mount.endReadingKernels()
            if mode == .none || mount.request.offline { return Empty() }
            try prefetch(mount, mode: mode, job: job, isCancelled: isCancelled)
            return Empty()
        }
        do { _ = try begin("prefetch", mount.mountpoint, endsWithCaller: false, work) } catch {
            mount.endReadingKernels()
            logger.warning("a prefetch could not be started", metadata: ["reason": "\(error.message)"])
        }
    }

    private func reader(of mount: Mount) -> KernelReader {
        KernelReader(
            catalog: catalog, cache: cache, tree: mount.merged.tree, sources: mount.merged.sources,
            survey: mount.kernels.survey)
    }

    /// Looks at the GPUs again, and at what could not be read before.
    func refreshViews(_ request: ViewRefreshRequest) throws(MCFSError) -> ViewList {
        var chosen = mounts.all
        if let mountpoint = request.mountpoint { chosen = [try mount(at: mountpoint)] }
        hostGPUs.refresh()
        // All of them by what is known, before one of them waits for its origin.
        for mount in chosen where !mount.kernels.survey.entries.isEmpty { mount.judgeKernels(hostGPUs) }
        let unread = chosen.filter { !$0.kernels.undescribed.isEmpty }
        for mount in unread where mount.beginReadingKernels() { describe(mount, prefetch: .none) }
        let deadline = Deadline(after: Self.refreshPatience)
        for mount in unread { mount.waitForKernels(deadline.remaining) }
        return ViewList(views: chosen.map { ViewList.View(mountpoint: $0.mountpoint, view: $0.view) })
    }

    /// SIGHUP.
    func refreshViews() {
        do {
            _ = try begin("view", "all mounts", endsWithCaller: false) { [self] _ throws(MCFSError) -> ViewList in
                try refreshViews(ViewRefreshRequest(mountpoint: nil))
            }
        } catch {
            logger.warning("the GPUs could not be looked at again", metadata: ["reason": "\(error.message)"])
        }
    }

    func mount(at mountpoint: String) throws(MCFSError) -> Mount {
        guard let mount = mounts.mount(at: mountpoint) else {
            let inside = mounts.mount(holding: mountpoint).map {
                "; it lies in the mount at \($0.mount.mountpoint): give that as the mountpoint, and '\($0.path)' as the path in it"
            }
            throw MCFSError(
                .notFound,
                "nothing is mounted at \(mountpoint) by the daemon of \(configuration.cacheDirectory)\(inside ?? "")")
        }
        return mount
    }

    /// Keeps how often kernels of a mount were used.
    func keepUses(_ mount: Mount) {
        let uses = mount.kernels.activity.takeUnsaved()
        do { try catalog.saveKernelUses(uses, at: mount.mountpoint) } catch {
            mount.kernels.activity.putBack(uses.keys)
            logger.warning("the use of kernels could not be kept", metadata: ["reason": "\(error.message)"])
        }
    }

    func explain(_ request: ExplainRequest) throws(MCFSError) -> Explanation {
        guard let (mount, path) = mounts.mount(holding: request.path) else {
            throw MCFSError(
                .notFound, "\(request.path) is in no mount of the daemon of \(configuration.cacheDirectory)")
        }
        return try mount.explain(path)
    }

    // MARK: References

    /// A tree with what its kernels need.
    struct JudgedTree: Sendable {
        var tree: Tree
        var sources: TreeSources
        var view: KernelView
        /// What told: `manifest` or `metadata`.
        var from: String
    }

    /// What the kernels of a selection need, read where it is not known, and judged.
    ///
    /// - Parameter believesManifests: what an image's manifest says is enough; it says less than the metadata.
    func judge(
        tree: Tree, sources: TreeSources, gpus: [GPU], believesManifests: Bool = true, job: Job
    ) throws(MCFSError) -> JudgedTree {
        let survey = KernelSurvey(tree)
        let reader = KernelReader(catalog: catalog, cache: cache, tree: tree, sources: sources, survey: survey)
        let view = KernelView(tree, survey, reader.known(), KernelActivity([:]), mountpoint: "")
        let told =
            believesManifests ? reader.fromManifests(view.undescribed, isCancelled: { job.isCancelled }) : []
        view.learn(told)
        let isTold = !told.isEmpty && view.undescribed.isEmpty
        try reader.read(view.undescribed, progress: job, isCancelled: { job.isCancelled }) { view.learn($0) }
        try job.checkCancellation()
        _ = view.judge(by: gpus)
        return JudgedTree(tree: tree, sources: sources, view: view, from: isTold ? "manifest" : "metadata")
    }

    private func tree(_ target: String, caller: Caller, job: Job) throws(MCFSError) -> (
        Tree, TreeSources, TreePath
    ) {
        if let (mount, path) = mounts.mount(holding: target) { return (mount.merged.tree, mount.merged.sources, path) }
        let loaded = try loader.load(target, caller: caller, mode: .onlineIfPossible, job: job)
        let merged = try MergedTree([loaded], offline: false, traffic: OriginTraffic())
        return (merged.tree, merged.sources, .root)
    }

    // MARK: check

    func check(_ request: KernelRequest, job: Job) throws(MCFSError) -> KernelCheck {
        // A mount is judged by what it was told, unless others are named.
        let mount = mounts.mount(holding: request.target)?.mount
        let choice = try GPUChoice(request.gpu, configured: configuration.gpu)
        let gpus = (request.gpu == ["auto"] ? mount?.gpuChoice ?? choice : choice).gpus(of: hostGPUs)
        if gpus.isEmpty { job.warn("no GPU was found on this host; give --gpu to say which to check for") }
        if mount == nil,
            let check = Self.check(try loader.labels(of: request.target, caller: request.caller, job: job), gpus)
        {
            return check
        }
        let (tree, sources, top) = try tree(request.target, caller: request.caller, job: job)
        let judged = try judge(tree: tree, sources: sources, gpus: gpus, job: job)
        var check = Self.emptyCheck(gpus, from: judged.from)
        for (position, entry) in judged.view.survey.entries.enumerated() {
            guard let path = tree.path(of: entry.directory).removing(prefix: top) else { continue }
            let (description, verdict) = judged.view.knowledge(position)
            check.add(
                KernelCheck.Kernel(
                    path: path.description, name: description?.name ?? "",
                    backend: description?.target?.architecture.backend.rawValue ?? description?.backend ?? "",
                    target: description?.target.map { "\($0.architecture)" } ?? "", verdict: verdict.outcome.shown,
                    reason: description?.problem ?? verdict.reason))
        }
        return check
    }

    private static func emptyCheck(_ gpus: [GPU], from: String) -> KernelCheck {
        var targets: [String] = []
        for gpu in gpus where !targets.contains(gpu.target) { targets.append(gpu.target) }
        return KernelCheck(
            gpu: targets, entries: 0, compatible: 0, incompatible: 0, unknown: 0, kernels: [], from: from)
    }

    /// nil where the labels do not tell it of every kernel: some targets run and some do not, or nobody knows.
    private static func check(_ labels: [String: String], _ gpus: [GPU]) -> KernelCheck? {
        guard let summary = CacheImageSummary(labels: labels), summary.isReliable, !summary.targets.isEmpty,
            !gpus.isEmpty
        else { return nil }
        let verdicts = summary.targets.map { $0.verdict(on: gpus) }
        guard let first = verdicts.first, first.outcome != .unknown,
            verdicts.allSatisfy({ $0.outcome == first.outcome })
        else { return nil }
        var check = emptyCheck(gpus, from: "labels")
        for (target, verdict) in zip(summary.targets, verdicts) {
            check.kernels.append(
                KernelCheck.Kernel(
                    path: "", name: "", backend: target.architecture.backend.rawValue, target: "\(target.architecture)",
                    verdict: verdict.outcome.shown, reason: verdict.reason))
        }
        check.entries = summary.entryCount ?? summary.targets.count
        if first.outcome == .runs { check.compatible = check.entries } else { check.incompatible = check.entries }
        return check
    }

    // MARK: The inventory

    /// Every kernel of a reference, or below a path, with what it needs.
    func kernels(_ request: SelectionRequest, job: Job) throws(MCFSError) -> KernelReports {
        let gpus = try GPUChoice(["auto"], configured: configuration.gpu).gpus(of: hostGPUs)
        let (tree, sources, top) = try tree(request.target, caller: request.caller, job: job)
        let view = try judge(
            tree: tree, sources: sources, gpus: gpus, believesManifests: false, job: job
        ).view
        var reports: [KernelReport] = []
        for (position, entry) in view.survey.entries.enumerated() {
            guard let path = tree.path(of: entry.directory).removing(prefix: top) else { continue }
            let (description, verdict) = view.knowledge(position)
            let content = KernelContent(entry.directory, tree, view.survey, cache)
            reports.append(
                KernelReport(
                    path: path.description, kind: entry.kind.rawValue, name: description?.name, hash: description?.hash,
                    backend: description?.backend ?? description?.target?.architecture.backend.rawValue,
                    target: description.flatMap { description in
                        description.targets.isEmpty
                            ? nil : description.targets.map { "\($0.architecture)" }.joined(separator: ",")
                    },
                    warpSize: description?.target?.warpSize, tritonVersion: description?.tritonVersion,
                    numWarps: description?.numWarps, numStages: description?.numStages, problem: description?.problem,
                    modified: tree.attributes(of: entry.directory).modified.seconds, bytes: content.bytes,
                    irBytes: content.irBytes, bytesLocal: content.bytesLocal, verdict: verdict.outcome.shown,
                    reason: verdict.reason, rule: verdict.rule))
        }
        return KernelReports(kernels: reports)
    }

    func kernelHits(_ request: UpperRequest) throws(MCFSError) -> KernelHits {
        let uses = try mount(at: request.mountpoint).kernels.activity.uses
        return KernelHits(
            kernels: uses.sorted { $0.key < $1.key }.map {
                KernelHits.Count(path: $0.key, hits: $0.value.hits, lastHit: $0.value.last)
            })
    }

    // MARK: ls

    /// Verdicts of what a listing shows, as far as they are known: nothing is fetched for it.
    func verdicts(of selection: Selection, in mount: Mount?) -> (Tree.Index) -> String? {
        let view: KernelView
        if let mount {
            view = mount.kernels
        } else {
            let survey = KernelSurvey(selection.tree)
            guard !survey.entries.isEmpty, let sources = selection.sources else { return { _ in nil } }
            let reader = KernelReader(
                catalog: catalog, cache: cache, tree: selection.tree, sources: sources, survey: survey)
            view = KernelView(selection.tree, survey, reader.known(), KernelActivity([:]), mountpoint: "")
            let gpus = (try? GPUChoice(["auto"], configured: configuration.gpu))?.gpus(of: hostGPUs) ?? []
            _ = view.judge(by: gpus)
        }
        return { entry in
            view.survey.entry(holding: entry).map { view.knowledge($0).verdict.outcome.shown }
        }
    }
}

extension KernelCheck {
    fileprivate mutating func add(_ kernel: Kernel) {
        kernels.append(kernel)
        entries += 1
        switch kernel.verdict {
        case "compatible": compatible += 1
        case "incompatible": incompatible += 1
        default: unknown += 1
        }
    }
}
