internal import CLinux
internal import Catalog
internal import ChunkStore
internal import ControlAPI
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
    let jobs = JobList()
    let started = ContinuousClock.now
    let loader: ReferenceLoader
    let hostGPUs: HostGPUs
    /// Called when a mount is gone or a job has ended.
    private let changed: @Sendable () -> Void
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

    func mount(_ request: MountRequest, job: Job) throws(MCFSError) -> MountStatus {
        guard request.mountpoint.hasPrefix("/"), !request.references.isEmpty else {
            throw MCFSError(.usage, "a mount needs at least one reference and an absolute mountpoint")
        }
        let view = request.view ?? ViewRequest()
        guard view.rebase == "auto" || view.rebase == "none" || view.rebase.hasPrefix("/") else {
            throw MCFSError(.usage, "'\(view.rebase)' is no place to rebase to: give auto, none or an absolute path")
        }
        let gpuChoice = try GPUChoice(view.gpu, configured: configuration.gpu)
        try mounts.reserve(request.mountpoint)
        do {
            if try Mountpoint.prepare(request.mountpoint) {
                logger.notice("took away a dead mount", metadata: ["mountpoint": "\(request.mountpoint)"])
            }
            let references = try load(request, job: job)
            let made = try makeMount(request, references: references, gpuChoice, job: job)
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
            return made.status(cache: cache.isScanned ? cache : nil)
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
        _ request: MountRequest, references: [LoadedReference], _ gpuChoice: GPUChoice, job: Job
    ) throws(MCFSError) -> Mount {
        job.report(phase: "mounting", done: 0, total: nil)
        let reference = WeakMount()
        let made = try Mount(
            request, references: references, cache: cache, catalog: catalog, gpuChoice: gpuChoice, host: hostGPUs,
            passthroughSample: configuration.passthrough ? directory.sampleFile : nil
        ) { [self] in
            reference.mount.map(keepUses)
            mounts.ended(request.mountpoint, reference.mount)
            logger.info("unmounted", metadata: ["mountpoint": "\(request.mountpoint)"])
            noteRequest()
            changed()
        }
        reference.mount = made
        // Nobody waits for it any more: nothing may stay.
        if job.isCancelled {
            try? made.unmount(force: true)
            try job.checkCancellation()
        }
        return made
    }

    func unmount(_ request: UnmountRequest) throws(MCFSError) {
        let path = request.mountpoint
        guard let mount = mounts.mount(at: path) else {
            try Self.unmountForeign(request)
            return
        }
        if request.lazy && !request.force {
            try Mountpoint.detach(path, flags: CInt(MNT_DETACH))
            mounts.detach(mount)
        } else {
            try mount.unmount(force: request.force)
            mounts.ended(path, mount)
        }
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
    func unmountAll() {
        for job in jobs.all { job.cancel() }
        for mount in mounts.close() {
            do {
                do { try mount.unmount(force: false) } catch { try mount.unmount(force: true) }
                mounts.ended(mount.mountpoint, mount)
            } catch {
                logger.error(
                    "a mount could not be ended",
                    metadata: ["mountpoint": "\(mount.mountpoint)", "reason": "\(error.message)"])
                try? Mountpoint.detach(mount.mountpoint, flags: CInt(MNT_DETACH))
            }
        }
    }

    /// The catalog may drop trees that nobody uses; which are used changes with the mounts.
    private func keepTrees() {
        do throws(MCFSError) {
            try catalog.keepTrees(Set(mounts.all.flatMap { $0.references.map(\.resolution.treeKey) }))
        } catch {
            logger.warning("old trees could not be dropped", metadata: ["reason": "\(error.message)"])
        }
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
            mounts: mounts.all.map { $0.status(cache: counted) }, jobs: jobList.jobs, version: mcfsVersion)
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

/// Breaks the circle between a mount and the closure that it calls when it ends.
private final class WeakMount: Sendable {
    private struct Box: Sendable { weak var mount: Mount? }
    private let box = Lock(Box())

    var mount: Mount? {
        get { box.withLock { $0.mount } }
        set { box.withLock { $0.mount = newValue } }
    }
}
