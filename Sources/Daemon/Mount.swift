internal import Catalog
internal import ChunkStore
internal import ControlAPI
internal import FUSEServer
internal import Glibc
internal import KernelCaches
internal import Logging
internal import MCFSCore
internal import MountFS
internal import Upper
internal import Synchronization
internal import Transport

/// One mount of this daemon.
final class Mount: Sendable {
    let mountpoint: String
    let request: MountRequest
    let references: [LoadedReference]
    let merged: MergedTree
    let fileSystem: MountFS
    let cache: ChunkCache
    let kernels: KernelView
    let gpuChoice: GPUChoice
    /// Held while kernels are judged.
    let judging = Lock(())
    /// From the start: who makes the mount reads them first, and a refresh that comes between must not take its place.
    let isReadingKernels = Guarded(true)
    private let traffic: OriginTraffic
    private let residencies: [Residency]
    /// Set once, right after the mount was made.
    let session = Lock<MountSession?>(nil)
    let life: MountLife
    private let readOnly: Lock<Bool>
    private let restored: Lock<Bool>

    /// Mounts. `catalog`: knows what kernels need, and how often they were used. `passthroughSample`: a file of the cache's disk, where the kernel may read complete files by itself. `logger`: gets what fails in it. `directory`: at the mountpoint. `isRestored`: the daemon makes it by itself. `ended` is called once when the mount is gone, however that came.
    init(
        _ request: MountRequest, life: MountLife, isRestored: Bool, directory: OwnedDescriptor,
        references: [LoadedReference], cache: ChunkCache, catalog: Catalog,
        gpuChoice: GPUChoice, host: HostGPUs, passthroughSample: OwnedDescriptor?, logger: Logger,
        ended: @escaping @Sendable () -> Void
    ) throws(MCFSError) {
        self.request = request
        self.life = life
        readOnly = Lock(request.readOnly)
        restored = Lock(isRestored)
        self.cache = cache
        self.gpuChoice = gpuChoice
        mountpoint = request.mountpoint
        self.references = references
        traffic = OriginTraffic(readDeadline: cache.configuration.readDeadline)
        merged = try MergedTree(references, offline: request.offline, traffic: traffic)
        residencies = references.map { Residency($0.tree) }
        let tree = merged.tree
        let survey = KernelSurvey(tree)
        let reader = KernelReader(
            catalog: catalog, cache: cache, tree: tree, sources: merged.sources, survey: survey)
        kernels = KernelView(
            tree, survey, reader.known(), KernelActivity((try? catalog.kernelUses(at: mountpoint)) ?? [:]),
            mountpoint: mountpoint)
        let shown = request.view ?? ViewRequest()
        let root: String? =
            switch shown.rebase {
            case "auto": mountpoint
            case "none": nil
            default: shown.rebase
            }
        let view = TreeView(
            tree, rewriting: GroupRewriting.rewriting(survey, tree, root: root, slim: shown.slim),
            observer: kernels)
        // A user who is not root cannot give files away: what was root's in an image is theirs here.
        let user = geteuid()
        let hasUpper = !request.readOnly || request.upper != nil
        let upper = hasUpper ? try UpperPlace.take(request, references, directory: directory) : nil
        fileSystem = MountFS(
            tree: merged.tree, sources: merged.sources, store: cache,
            origin: references.map(\.resolution.resolved).joined(separator: " "), upper: upper,
            owner: user == 0 ? nil : (user, getegid()), view: view)
        if !survey.entries.isEmpty { judgeKernels(host) }
        var options = MountSession.Options()
        options.allowOther = request.allowOther
        if let name = request.fsname { options.sourceName = name }
        options.kernelOptions = request.kernelOptions
        options.isReadOnly = request.readOnly
        options.directory = directory
        options.passthroughSample = passthroughSample
        options.logger = logger
        let made = try MountSession(fileSystem, at: mountpoint, options: options) { [fileSystem] in
            fileSystem.overlay?.close()
            ended()
        }
        session.withLock { $0 = made }
    }

    /// Where another mount namespace has it too, it goes on for that, unless `force` is set: `life` tells.
    func unmount(force: Bool) throws(MCFSError) {
        guard let session = session.withLock({ $0 }) else { return }
        try session.unmount(force: force)
        // Before the caller hears of it: the upper can be mounted again.
        if force { fileSystem.overlay?.close() }
    }

    /// Whether it is at its mountpoint.
    func isInPlace(among listed: MountSession.Listed = .init()) -> Bool {
        session.withLock({ $0 })?.isInPlace(among: listed) ?? false
    }

    func remount(readOnly: Bool, kernelOptions: [String]) throws(MCFSError) {
        guard let session = session.withLock({ $0 }) else { return }
        try session.remount(readOnly: readOnly, options: kernelOptions)
        isReadOnly = readOnly
    }

    /// Whether the daemon made it by itself, and nobody asked for it since.
    var isRestored: Bool {
        get { restored.withLock { $0 } }
        set { restored.withLock { $0 = newValue } }
    }

    /// nil where nothing but the tree shows.
    var upperPath: String? { fileSystem.overlay?.upper.path }

    /// As its mountpoint shows it.
    var isReadOnly: Bool {
        get { readOnly.withLock { $0 } }
        set { readOnly.withLock { $0 = newValue } }
    }

    /// As `status`, of a mount that is not at its mountpoint any more.
    func detachedStatus(cache: ChunkCache?) -> MountStatus {
        var status = self.status(cache: cache)
        status.state = .detached
        status.heldBy = session.withLock({ $0 })?.holders() ?? []
        return status
    }

    func selection(at path: TreePath, filter: PathFilter) throws(MCFSError) -> Selection {
        do {
            return try Selection(tree: merged.tree, sources: merged.sources, at: path, filter: filter)
        } catch {
            throw MCFSError(error.code, "there is no '\(path)' in the mount at \(mountpoint)")
        }
    }

    /// - Parameter cache: counts what is local; nil: it would be waited for.
    func status(cache: ChunkCache?) -> MountStatus {
        let originProblems = traffic.problems
        return MountStatus(
            mountpoint: mountpoint,
            state: request.offline ? .offline : originProblems.isEmpty ? .ready : .degraded, readOnly: isReadOnly,
            upper: fileSystem.overlay?.upper.path,
            upperBytes: fileSystem.overlay.map {
                // What is written, not the room that is kept for what is remembered.
                DirectoryUsage.bytes(
                    of: $0.upper.directory, but: String(decoding: UpperLayout.hiddenName, as: UTF8.self))
            },
            references: zip(references, residencies).map { loaded, residency in
                let local = cache.map(residency.local(in:))
                return MountStatus.Reference(
                    reference: loaded.text, resolved: loaded.resolution.resolved, entries: loaded.tree.count,
                    bytesTotal: residency.bytesTotal, bytesLocal: local?.bytes, unverifiable: local?.unverifiable)
            },
            reads: reads, origin: originTraffic, passthrough: session.withLock { $0?.isPassingThrough ?? false },
            problems: originProblems + upperProblems, waiting: waiting, view: view)
    }

    /// Most reads that `status` lists.
    private static let waitingMax = 100
    /// Shorter waits are what every first read of a byte has.
    private static let waitingMin = Duration.seconds(1)

    private var waiting: [MountStatus.WaitingRead] {
        let reads = session.withLock { $0 }?.waitingReads.prefix { $0.duration >= Self.waitingMin } ?? []
        return reads.prefix(Self.waitingMax).compactMap { read in
            guard let path = fileSystem.path(of: read.node) else { return nil }
            return MountStatus.WaitingRead(
                path: path.description, pid: read.thread.flatMap(Self.process(of:)),
                seconds: (read.duration.inSeconds * 10).rounded() / 10)
        }
    }

    /// The process that a thread belongs to.
    private static func process(of thread: pid_t) -> pid_t? {
        guard let status = try? SmallFile.read("/proc/\(thread)/status", bytesMax: 65_536) else { return nil }
        let line = String(decoding: status, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("Tgid:") }
        return line.flatMap { $0.split(whereSeparator: \.isWhitespace).last }.flatMap { pid_t($0) }
    }

    /// What the user should know of the upper, and of uppers that the tree is made of.
    var upperProblems: [String] { merged.problems + (fileSystem.overlay?.upper.problems ?? []) }

    /// - Throws: `usage` for a mount that is read-only.
    func overlay() throws(MCFSError) -> Overlay {
        guard let overlay = fileSystem.overlay else {
            throw MCFSError(.usage, "the mount at \(mountpoint) is read-only: it has no upper")
        }
        return overlay
    }

    /// - Throws: `usage` for a mount that is read-only.
    func upperChanges() throws(MCFSError) -> UpperChanges {
        let overlay = try overlay()
        do throws(Errno) {
            return UpperChanges(
                upper: overlay.upper.path,
                changes: try overlay.differences().map { difference in
                    UpperChanges.Change(
                        path: difference.path.description, change: difference.kind.rawValue, type: "\(difference.type)",
                        size: difference.size, from: difference.from?.description,
                        metadataOnly: difference.isMetadataOnly, opaque: difference.isOpaque)
                })
        } catch {
            throw MCFSError(localIO: "read the upper \(overlay.upper.path)", error)
        }
    }

    private var originTraffic: MountStatus.OriginTraffic {
        var counters = traffic.counters
        counters.treeRequests = references.clampedSum(\.traffic.requests)
        counters.treeBytes = references.clampedSum(\.traffic.bytes)
        counters.requests.addClamped(counters.treeRequests)
        counters.bytes.addClamped(counters.treeBytes)
        return counters
    }

    private var reads: MountStatus.Reads {
        let counted = fileSystem.reads
        var reads = MountStatus.Reads()
        reads.count = counted.count
        reads.bytes = counted.bytes
        reads.hits = counted.hits
        reads.misses = counted.misses
        reads.errors = counted.errors
        return reads
    }

    /// Makes the kernel forget what it cached of a content: bytes of it turned out wrong. May block for reads in flight.
    func forget(_ id: BlobID) {
        guard let session = session.withLock({ $0 }) else { return }
        let tree = merged.tree
        for entry in 0..<Tree.Index(tree.count) where tree.content(of: entry)?.id == id {
            session.forgetPages(of: tree.inode(of: entry))
        }
    }
}
