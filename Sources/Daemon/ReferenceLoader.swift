internal import Catalog
internal import ChunkStore
internal import ControlAPI
internal import KernelCaches
internal import Logging
internal import MCFSCore
internal import MountFS
internal import Origins
internal import Transport

/// A reference with its tree.
struct LoadedReference: Sendable {
    /// As the user typed it, `SUBDIR=` and all, but for a password in it.
    var text: String { (reference.subdirectory.isRoot ? "" : "\(reference.subdirectory)=") + origin.reference }
    var reference: Reference
    var resolution: Catalog.Resolution
    var origin: any Origin
    var tree: Tree
    /// What it took to resolve the reference and to make its tree.
    var traffic: TrafficMeter
}

/// Turns references into trees: from the catalog where it knows them, else from the origin.
struct ReferenceLoader: Sendable {
    /// Whether the origin is asked what the reference stands for.
    enum Mode: Sendable {
        case online
        /// Never: what the catalog knows, or an error.
        case offline
        /// What the catalog knows is good enough; the origin is asked only where it knows nothing.
        case catalogFirst
        /// The origin is asked; where it does not answer, what the catalog knows will do, with a warning.
        case onlineIfPossible
    }

    /// Somebody waits at a prompt, or a pod for its volume: what does not answer by then is down.
    private static let resolveDeadline = Duration.seconds(15)
    /// A compressed layer is streamed whole; each request on the way has a deadline of its own.
    private static let treeDeadline = Duration.seconds(12 * 3600)

    let catalog: Catalog
    let content: any ContentSink
    let http: HTTPClient
    /// Of all references, with their trees.
    let traffic = TrafficMeter()
    let logger: Logger
    let certificatesDirectory: String?

    func load(_ text: String, caller: Caller, mode: Mode, job: Job) throws(MCFSError) -> LoadedReference {
        let reference = try Reference(text, relativeTo: caller.workingDirectory)
        let traffic = TrafficMeter(parent: self.traffic)
        let origin = try origin(of: reference, caller: caller, traffic)
        // What is read of it later is content, which is counted where it is asked for.
        defer { traffic.close() }
        let hints = hints(of: origin.reference, job)
        let resolution = try resolve(origin, mode: mode, hints, job: job)
        try job.checkCancellation()
        let tree = try tree(of: resolution, origin: origin, mode: mode, hints, job: job)
        origin.forgetListing()
        return LoadedReference(
            reference: reference, resolution: resolution, origin: origin, tree: tree, traffic: traffic)
    }

    /// Asks nothing of the network.
    func origin(_ text: String, caller: Caller) throws(MCFSError) -> any Origin {
        try origin(of: Reference(text, relativeTo: caller.workingDirectory), caller: caller, traffic)
    }

    /// What the origin says of a reference before any of its tree is read; empty where it does not answer.
    func labels(of text: String, caller: Caller, job: Job) throws(MCFSError) -> [String: String] {
        let origin = try origin(text, caller: caller)
        let resolution = try resolve(origin, mode: .onlineIfPossible, hints(of: origin.reference, job), job: job)
        do { return try origin.labels(of: resolution, deadline: Deadline(after: Self.resolveDeadline)) } catch {
            if error.code == .originUnavailable || error.code == .timedOut { return [:] }
            throw error
        }
    }

    private func origin(
        of reference: Reference, caller: Caller, _ traffic: TrafficMeter
    ) throws(MCFSError) -> any Origin {
        try reference.origin(environment: environment(of: caller), http: http.metered(by: traffic), logger: logger)
    }

    /// The caller's variables; the registry mirrors of the daemon's configuration where the caller names none.
    private func environment(of caller: Caller) -> Environment {
        var environment = Environment(caller.environment)
        let variable = Configuration.Key.certsDir.variable
        if environment[variable] == nil { environment.variables[variable] = certificatesDirectory }
        return environment
    }

    /// What the catalog knows, for who can ask the origin as well.
    private func hints(of reference: String, _ job: Job) -> CatalogHints {
        CatalogHints(catalog) { [logger] error in
            let message =
                "\(error.message); \(reference) works, but what was found out about it is not kept: until it can be, it is asked of the origin each time"
            logger.warning(
                "the catalog could not be used", metadata: ["reference": "\(reference)", "reason": "\(error.message)"])
            job.warn(message)
        }
    }

    private func resolve(
        _ origin: any Origin, mode: Mode, _ hints: CatalogHints, job: Job
    ) throws(MCFSError) -> Catalog.Resolution {
        switch mode {
        case .offline:
            if let known = try catalog.resolution(of: origin.reference) { return known }
            throw MCFSError(
                .notFound,
                "\(origin.reference) was never mounted or prefetched with this cache, so it cannot be used offline; do that once with the origin at hand"
            )
        case .catalogFirst: if let known = hints.resolution(of: origin.reference) { return known }
        case .online, .onlineIfPossible: break
        }
        job.report(phase: "resolving \(origin.reference)", done: 0, total: nil)
        do {
            let resolution = try origin.resolve(deadline: Deadline(after: Self.resolveDeadline))
            hints.record(resolution)
            return resolution
        } catch {
            guard error.code == .originUnavailable || error.code == .timedOut,
                let known = hints.resolution(of: origin.reference)
            else { throw error }
            if mode == .onlineIfPossible {
                job.warn("\(error.message); going on with what this cache knows (\(known.resolved))")
                return known
            }
            throw MCFSError(
                .originUnavailable, "\(error.message); what this cache has of it can be mounted with --offline",
                cause: error, isTransient: error.isTransient)
        }
    }

    private func tree(
        of resolution: Catalog.Resolution, origin: any Origin, mode: Mode, _ hints: CatalogHints, job: Job
    ) throws(MCFSError) -> Tree {
        if mode == .offline {
            if let known = try catalog.tree(resolution.treeKey) { return known }
            throw MCFSError(
                .notFound,
                "the cache has no tree of \(resolution.resolved), so it cannot be used offline; mount it once with the origin at hand"
            )
        }
        if let known = hints.tree(resolution.treeKey) { return known }
        var loading = TreeLoading(
            content: CancellableSink(content, job: job), catalog: hints, progress: job,
            deadline: Deadline(after: Self.treeDeadline))
        loading.isKernel = { TritonFile.isBinary($0) || TritonFile.isGroup($0) }
        let tree = try origin.tree(of: resolution, loading: loading)
        try job.checkCancellation()
        hints.save(tree, key: resolution.treeKey)
        return tree
    }
}

/// Several references as one tree, and what serves its bytes.
struct MergedTree: Sendable {
    let tree: Tree
    let sources: TreeSources

    /// Later references win where names clash, folders merge.
    init(_ references: [LoadedReference], offline: Bool, traffic: OriginTraffic) throws(MCFSError) {
        if references.count == 1, references[0].reference.subdirectory.isRoot {
            tree = references[0].tree
        } else {
            var builder = TreeBuilder()
            for loaded in references { try builder.merge(loaded.tree, at: loaded.reference.subdirectory) }
            tree = try builder.build()
        }
        // `merge` appends a tree's sources to those that are there.
        let counts = references.map(\.tree.sources.count)
        guard tree.sources.count == counts.reduce(0, +) else {
            throw MCFSError(.failed, "the merged tree has \(tree.sources.count) sources of \(counts)")
        }
        sources = TreeSources(tree) { [tree] number throws(MCFSError) in
            var first = 0
            var place = 0
            while number >= first + counts[place] {
                first += counts[place]
                place += 1
            }
            let loaded = references[place]
            if offline { return OfflineSource(name: loaded.resolution.resolved) }
            return ObservedSource(
                try loaded.origin.source(tree.sources[number], of: loaded.resolution), traffic: traffic)
        }
        // A stored tree that its origin does not understand any more is found out here, not by its first reader.
        var first = 0
        for count in counts where count > 0 {
            try sources.check(first)
            first += count
        }
    }
}

/// Ends a tree that is being built, at its next file, once its job was given up.
private final class CancellableSink: ContentSink {
    private let base: any ContentSink
    private let job: Job

    init(_ base: any ContentSink, job: Job) {
        self.base = base
        self.job = job
    }

    func beginContent(id: BlobID?, size: UInt64) throws(MCFSError) -> any ContentWriter {
        try job.checkCancellation()
        return try CancellableWriter(base.beginContent(id: id, size: size), job: job)
    }
}

private final class CancellableWriter: ContentWriter {
    private let base: any ContentWriter
    private let job: Job

    init(_ base: any ContentWriter, job: Job) {
        self.base = base
        self.job = job
    }

    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        try job.checkCancellation()
        try base.write(bytes)
    }

    func commit() throws(MCFSError) -> BlobID { try base.commit() }
}
