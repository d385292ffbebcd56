internal import CLinux
internal import Catalog
internal import ChunkStore
internal import ControlAPI
internal import FUSEServer
internal import Glibc
internal import GPUCompat
internal import KernelCaches
internal import Logging
internal import MCFSCore
internal import Synchronization
internal import Transport

/// What a daemon does: owns the cache, the catalog and the mounts. Every call blocks the calling thread; thread safe.
///
/// Locks: those of `MountTable`, `JobList` and `pinLock` are never held together; only `pinLock` is held over catalog
/// calls.
final class MountService: Sendable {
    private let directory: CacheLock
    let configuration: Configuration
    let logger: Logger
    let catalog: Catalog
    let cache: ChunkCache
    let mounts = MountTable()
    let records: MountRecords
    /// Trees of what was mounted when the daemon started.
    private let recordedTrees: Set<String>
    /// By mountpoint: why what was mounted could not be mounted again.
    let restoreFailures = Lock<[String: String]>([:])
    let jobs = JobList()
    let started = ContinuousClock.now
    let loader: ReferenceLoader
    let hostGPUs: HostGPUs
    /// Called when a mount is gone or a job has ended.
    let changed: @Sendable () -> Void
    private let lastRequest = Lock(ContinuousClock.now)
    /// Orders changes of the pins with the set that the cache gets of them.
    let pinLock = Lock(())
    private let unverifiableCount = KeptCount<Unverifiable>()
    /// How long `status` waits for the count of what is local.
    private static let scanPatience = Duration.seconds(1)

    /// - Parameter directory: the cache directory, which stays this process's for as long as this lives.
    init(
        directory: CacheLock, configuration: Configuration, logger: Logger, changed: @escaping @Sendable () -> Void
    ) throws(MCFSError) {
        self.directory = directory
        self.configuration = configuration
        self.logger = logger
        self.changed = changed
        records = MountRecords(cacheDirectory: directory.path)
        recordedTrees = Set(records.all.flatMap { $0.references.map(\.treeKey) })
        var limits = CacheConfiguration()
        limits.bytesMax = configuration.cacheBytesMax
        limits.chunkSize = configuration.chunkSizeBytes
        limits.fetchThreads = configuration.fetchThreads
        limits.inFlightBytesMax = configuration.inFlightBytesMax
        limits.readDeadline = configuration.readDeadline
        catalog = try Catalog(directory: directory.path)
        cache = try ChunkCache(directory: directory.path, configuration: limits, logger: logger)
        hostGPUs = HostGPUs(configuration.environment, logger: logger)
        loader = ReferenceLoader(
            catalog: catalog, content: cache, http: HTTPClient(), logger: logger,
            certificatesDirectory: configuration.certificatesDirectory)
        for warning in catalog.warnings { logger.warning("the catalog was mended", metadata: ["reason": "\(warning)"]) }
        cache.onDiscard { [mounts] id in
            for mount in mounts.all { mount.forget(id) }
        }
        do { try updatePinned() } catch {
            logger.error("the pins could not be read", metadata: ["reason": "\(error.message)"])
        }
    }

    // MARK: Requests and rest

    func noteRequest() { lastRequest.withLock { $0 = .now } }

    /// Whether nothing is mounted, nothing is being done, and nobody asked for anything for the idle time.
    var isIdle: Bool {
        jobs.isEmpty && mounts.isEmpty
            && ContinuousClock.now - lastRequest.withLock({ $0 }) >= configuration.idleTimeout
    }

    /// Runs the work of one request on a thread of its own; the stream has its events.
    func begin<Value: Codable & Sendable>(
        _ kind: String, _ target: String, endsWithCaller: Bool = true, onStart: (Job) -> Void = { _ in },
        _ work: @escaping @Sendable (Job) throws(MCFSError) -> Value
    ) throws(MCFSError) -> AsyncStream<Job.Output> {
        let (stream, continuation) = AsyncStream.makeStream(of: Job.Output.self)
        let job = Job(
            id: jobs.nextID(), kind: kind, target: target, endsWithCaller: endsWithCaller, output: continuation)
        jobs.add(job)
        onStart(job)
        do throws(MCFSError) {
            try WorkerThread.start { [self] in
                let result: Result<Value, MCFSError>
                do throws(MCFSError) { result = .success(try work(job)) } catch { result = .failure(error) }
                if case .failure(let error) = result {
                    logger.warning(
                        "a request failed",
                        metadata: ["op": "\(kind)", "target": "\(job.target)", "reason": "\(error.message)"])
                }
                // Off the list before the caller hears of it: what it does next must not find the job still there.
                jobs.remove(job)
                noteRequest()
                job.finish(result)
                // Building a tree leaves much free memory behind, which the allocator would keep.
                mcfs_trim_heap()
                changed()
            }
        } catch {
            jobs.remove(job)
            throw error
        }
        return stream
    }

    // MARK: Mounts

    /// - Parameter isRecorded: it comes back where the daemon ends under it.
    func mount(_ request: MountRequest, isRecorded: Bool = true, job: Job) throws(MCFSError) -> MountStatus {
        guard request.mountpoint.hasPrefix("/"), !request.references.isEmpty else {
            throw MCFSError(.usage, "a mount needs at least one reference and an absolute mountpoint")
        }
        let view = request.view ?? ViewRequest()
        guard view.rebase == "auto" || view.rebase == "none" || view.rebase.hasPrefix("/") else {
            throw MCFSError(.usage, "'\(view.rebase)' is no place to rebase to: give auto, none or an absolute path")
        }
        while let restored = try mounts.reserve(request.mountpoint, for: job) {
            // The daemon has made it again by itself, and here is who wants it.
            do { try unmount(restored, force: false) } catch {
                guard error.code == .busy, try isSame(restored, request) else { throw error }
                restored.isRestored = false
                return restored.status(cache: cache.isScanned ? cache : nil)
            }
        }
        let made = try makeReserved(request, isRestored: false, job: job) { () throws(MCFSError) in
            try load(request, job: job)
        }
        if isRecorded { record(made, job) }
        return made.status(cache: cache.isScanned ? cache : nil)
    }

    /// Makes a mount at the place that `job` has in the table, or gives the place back.
    func makeReserved(
        _ request: MountRequest, isRestored: Bool, job: Job,
        load: () throws(MCFSError) -> [LoadedReference]
    ) throws(MCFSError) -> Mount {
        do {
            let gpuChoice = try GPUChoice((request.view ?? ViewRequest()).gpu, configured: configuration.gpu)
            let (directory, wasDead) = try Mountpoint.prepare(request.mountpoint)
            if wasDead {
                logger.notice("took away a dead mount", metadata: ["mountpoint": "\(request.mountpoint)"])
            }
            try UpperPlace.keepApart(request, fromCache: self.directory.path)
            let references = try load()
            let made = try makeMount(
                request, isRestored: isRestored, directory: directory, references: references, gpuChoice, job: job)
            mounts.enter(made)
            keepTrees()
            logger.info(
                "mounted",
                metadata: [
                    "mountpoint": "\(request.mountpoint)",
                    "references": "\(references.map(\.resolution.resolved).joined(separator: " "))",
                ])
            for problem in made.upperProblems {
                logger.warning("the upper", metadata: ["mountpoint": "\(request.mountpoint)", "problem": "\(problem)"])
                job.warn(problem)
            }
            if !made.kernels.survey.entries.isEmpty, gpuChoice == .host, made.kernels.gpus.isEmpty {
                let findings = hostGPUs.findings()
                for problem in findings.problems { job.warn(problem) }
                let what = findings.gpus.isEmpty ? "no GPU was found on this host" : "not every GPU could be looked at"
                job.warn(
                    "\(what), so all kernels show; give --gpu to say which to show, or use 'mcfs view refresh' later")
            }
            if request.wait ?? false {
                try settle(made, waitingFor: request.prefetch, job: job)
            } else {
                settle(made, prefetch: request.prefetch)
            }
            return made
        } catch {
            mounts.giveBack(request.mountpoint)
            throw error
        }
    }

    private func load(_ request: MountRequest, job: Job) throws(MCFSError) -> [LoadedReference] {
        var references: [LoadedReference] = []
        for text in request.references {
            references.append(
                try loader.load(text, caller: request.caller, mode: request.offline ? .offline : .online, job: job))
        }
        return references
    }

    private func makeMount(
        _ request: MountRequest, isRestored: Bool, directory: OwnedDescriptor, references: [LoadedReference],
        _ gpuChoice: GPUChoice, job: Job
    ) throws(MCFSError) -> Mount {
        job.report(phase: "mounting", done: 0, total: nil)
        let life = MountLife()
        let made = try Mount(
            request, life: life, isRestored: isRestored, directory: directory, references: references, cache: cache,
            catalog: catalog, gpuChoice: gpuChoice, host: hostGPUs,
            passthroughSample: configuration.passthrough ? self.directory.sampleFile : nil, logger: logger
        ) { [self] in
            if let (mount, wasListed) = mounts.ended(life) {
                if wasListed { records.forget(mount.mountpoint) }
                keepUses(mount)
            }
            logger.info("unmounted", metadata: ["mountpoint": "\(request.mountpoint)"])
            noteRequest()
            changed()
        }
        // Nobody waits for it any more: nothing may stay.
        if job.isCancelled {
            try? made.unmount(force: true)
            try job.checkCancellation()
        }
        return made
    }

    /// What is mounted now comes back where the daemon ends under it.
    func record(_ mount: Mount, _ job: Job) {
        do throws(MCFSError) {
            try records.keep(MountRecord(mount.request, mount.references))
            // It may have gone meanwhile.
            if mount.life.isOver { records.forget(mount.mountpoint) }
        } catch {
            logger.warning(
                "a mount is not recorded",
                metadata: ["mountpoint": "\(mount.mountpoint)", "reason": "\(error.message)"])
            job.warn("\(error.message); it does not come back by itself where its daemon is killed")
        }
    }

    func unmount(_ request: UnmountRequest, job: Job) throws(MCFSError) {
        let path = request.mountpoint
        mounts.waitWhileRestoring(path)
        let wasBeingMade = mounts.giveUp(path)
        guard let mount = mounts.mount(at: path) else {
            let wasRecorded = records.forget(path)
            do { try Self.unmountForeign(request) } catch {
                guard wasRecorded || wasBeingMade, error.code == .notFound else { throw error }
            }
            return
        }
        if request.lazy && !request.force {
            try Mountpoint.detach(path, flags: CInt(MNT_DETACH))
            leavePlace(mount)
            return
        }
        try unmount(mount, force: request.force)
        if !mount.life.isOver {
            job.warn("\(path) is unmounted here; others still have the mount, and it goes on for them ('mcfs status')")
        }
    }

    /// - Throws: `busy` where files are open there and `force` is not set.
    private func unmount(_ mount: Mount, force: Bool) throws(MCFSError) {
        try mount.unmount(force: force)
        leavePlace(mount)
    }

    private func leavePlace(_ mount: Mount) { if mounts.detach(mount) { records.forget(mount.mountpoint) } }

    /// Makes a mount read-only or writable while it is in use.
    func remount(_ request: RemountRequest) throws(MCFSError) -> MountStatus {
        let mount = try self.mount(at: request.mountpoint)
        if !request.readOnly, mount.upperPath == nil {
            throw MCFSError(
                .cannotCreate,
                "the mount at \(request.mountpoint) has no upper, so it cannot be made writable; mount it without --read-only"
            )
        }
        try mount.remount(readOnly: request.readOnly, kernelOptions: request.kernelOptions)
        if var record = records.record(of: request.mountpoint) {
            record.request.readOnly = request.readOnly
            record.request.upper = mount.upperPath
            try? records.keep(record)
        }
        return mount.status(cache: cache.isScanned ? cache : nil)
    }

    /// Takes away a mount that no daemon of this cache directory serves: one left dead, or another daemon's.
    static func unmountForeign(_ request: UnmountRequest) throws(MCFSError) {
        let path = request.mountpoint
        switch try Mountpoint.state(of: path) {
        case .missing:
            throw MCFSError(.notFound, "there is no \(path)")
        case .notDirectory, .free:
            throw MCFSError(.notFound, "nothing is mounted at \(path)")
        case .dead(let type) where Mountpoint.isOurs(type):
            try Mountpoint.detach(path, flags: CInt(MNT_DETACH))
        case .mounted(let type) where type == "fuse.mcfs":
            var flags: CInt = 0
            if request.lazy || request.force { flags |= CInt(MNT_DETACH) }
            if request.force { flags |= CInt(MNT_FORCE) }
            try Mountpoint.detach(path, flags: flags)
        case .mounted(let type), .dead(let type):
            throw MCFSError(.notFound, "the mount at \(path) is not one of mcfs (\(type)); use umount")
        }
    }

    /// Ends every mount, whatever is open there; nobody can mount afterwards.
    ///
    /// - Parameter keepsRecords: the next daemon makes them again.
    func unmountAll(keepsRecords: Bool) {
        if keepsRecords { records.freeze() }
        for job in jobs.all { job.cancel() }
        for mount in mounts.close() {
            do {
                // A place that is not its own any more is left alone.
                if mount.isInPlace() { try? mount.unmount(force: false) }
                if !mount.life.isOver { try mount.unmount(force: true) }
                records.forget(mount.mountpoint)
            } catch {
                logger.error(
                    "a mount could not be ended",
                    metadata: ["mountpoint": "\(mount.mountpoint)", "reason": "\(error.message)"])
                if mount.isInPlace() { try? Mountpoint.detach(mount.mountpoint, flags: CInt(MNT_DETACH)) }
            }
        }
    }

    /// The catalog may drop trees that nobody uses; which are used changes with the mounts.
    private func keepTrees() {
        do throws(MCFSError) {
            let mounted = mounts.all.flatMap { $0.references.map(\.resolution.treeKey) }
            try catalog.keepTrees(recordedTrees.union(mounted))
        } catch {
            logger.warning("old trees could not be dropped", metadata: ["reason": "\(error.message)"])
        }
    }

    /// Whether a mount at the place is the one that `request` asks for.
    private func isSame(_ mount: Mount, _ request: MountRequest) throws(MCFSError) -> Bool {
        var wanted: [String] = []
        for text in request.references { wanted.append(try loader.text(of: text, caller: request.caller)) }
        let had = mount.request
        return wanted == mount.references.map(\.text) && had.upper == request.upper
            && had.readOnly == request.readOnly && had.allowOther == request.allowOther
            && had.offline == request.offline && had.kernelOptions == request.kernelOptions
    }

    /// What was written over the tree of a mount.
    func upperChanges(_ request: UpperRequest) throws(MCFSError) -> UpperChanges {
        try mount(at: request.mountpoint).upperChanges()
    }

    /// Goes back to the tree.
    func resetUpper(_ request: UpperResetRequest) throws(MCFSError) -> UpperReset {
        try mount(at: request.mountpoint).resetUpper(request)
    }

    // MARK: Jobs

    /// What is being done, but for those who only wait for it.
    var jobList: JobDocument { JobDocument(jobs: jobs.all.filter { $0.kind != Self.waitKind }.map(\.status)) }

    static let waitKind = "wait"

    /// Waits for a job and fails as it does; its progress is the caller's.
    func wait(for request: JobRequest, job: Job) throws(MCFSError) -> JobStatus {
        let awaited = try jobs.job(request.id)
        while true {
            if let result = awaited.wait(.milliseconds(500)) {
                try result.get()
                return awaited.status
            }
            try job.checkCancellation()
            let progress = awaited.status.progress
            job.report(phase: progress.phase, done: progress.done, total: progress.total)
        }
    }

    func cancel(_ request: JobRequest) throws(MCFSError) -> JobStatus {
        let job = try jobs.job(request.id)
        job.cancel()
        return job.status
    }

    // MARK: Status

    /// Waits at most a second for the count of what is local.
    func status() -> Status {
        let deadline = Deadline(after: Self.scanPatience)
        let counted = cache.waitUntilScanned(deadline) ? cache : nil
        let usage = counted?.usage
        return Status(
            cache: CacheStatus(
                directory: configuration.cacheDirectory, bytesUsed: usage?.bytesUsed,
                bytesMax: cache.configuration.bytesMax, bytesPinned: usage?.bytesPinned,
                unverifiable: counted.map(unverifiable(in:)), problems: cache.problems),
            mounts: mountStatuses(counted), jobs: jobList.jobs, version: mcfsVersion)
    }

    private func mountStatuses(_ counted: ChunkCache?) -> [MountStatus] {
        // umount(8) does not tell the daemon, where others still have the mount.
        let listed = MountSession.Listed()
        for mount in mounts.all where !mount.isInPlace(among: listed) { leavePlace(mount) }
        let serving = mounts.all
        let places = Set(serving.map(\.mountpoint))
        return serving.map { $0.status(cache: counted) } + mounts.detached.map { $0.detachedStatus(cache: counted) }
            + records.all.filter { !places.contains($0.request.mountpoint) }.map(deadStatus)
    }

    private func unverifiable(in cache: ChunkCache) -> Unverifiable {
        unverifiableCount.value(cache) {
            var sum = Unverifiable()
            for content in cache.localContents where content.id.kind == .origin { sum.add(content.bytes) }
            return sum
        }
    }

    func metrics() -> String {
        Metrics.render(
            status: status(), statistics: cache.statistics, treeTraffic: loader.traffic,
            uptimeSeconds: (ContinuousClock.now - started).inSeconds)
    }
}
