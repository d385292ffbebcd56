internal import Catalog
internal import ChunkStore
internal import ControlAPI
internal import KernelCaches
internal import Logging
internal import MCFSCore
internal import MountFS
internal import Origins
internal import Transport
internal import Upper

/// A reference with its tree.
struct LoadedReference: Sendable {
    /// As the user typed it, `SUBDIR=` and all, but for a password in it.
    var text: String { (reference.subdirectory.isRoot ? "" : "\(reference.subdirectory)=") + origin.reference }
    var reference: Reference
    var resolution: Catalog.Resolution
    var origin: any Origin
    var tree: Tree

    /// Where it is a local folder, or a local file: its path.
    var localPath: String? {
        resolution.resolved.hasPrefix("file:") ? String(resolution.resolved.dropFirst("file:".count)) : nil
    }
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
    private static func resolveDeadline(_ job: Job) -> Deadline {
        Deadline(after: .seconds(15), cancellation: job.cancellation)
    }

    /// A compressed layer is streamed whole; each request on the way has a deadline of its own.
    private static let treeDeadline = Duration.seconds(12 * 3600)

    let catalog: Catalog
    let content: any ContentSink
    /// Of all mounts.
    let layers = LayersUnderWay()
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
        do throws(MCFSError) {
            let resolution = try resolve(origin, mode: mode, hints, job: job)
            try job.checkCancellation()
            let tree = try tree(of: resolution, origin: origin, mode: mode, hints, job: job)
            origin.forgetListing()
            return LoadedReference(
                reference: reference, resolution: resolution, origin: origin, tree: tree, traffic: traffic)
        } catch {
            // What was given up may look as if the origin had not answered in time.
            try job.checkCancellation()
            throw error
        }
    }

    /// What an earlier mount of this cache showed, whatever its reference stands for now. Asks nothing of the network, unless the
    /// catalog has lost the tree.
    func restore(
        _ known: MountRecord.Reference, caller: Caller, offline: Bool, job: Job
    ) throws(MCFSError) -> LoadedReference {
        let reference = try Reference(known.text, relativeTo: caller.workingDirectory)
        let traffic = TrafficMeter(parent: self.traffic)
        let origin = try origin(of: reference, caller: caller, traffic)
        defer { traffic.close() }
        let resolution = Catalog.Resolution(
            reference: origin.reference, resolved: known.resolved, treeKey: known.treeKey)
        if let tree = hints(of: origin.reference, job).tree(known.treeKey) {
            return LoadedReference(
                reference: reference, resolution: resolution, origin: origin, tree: tree, traffic: traffic)
        }
        let subdirectory = reference.subdirectory.isRoot ? "" : "\(reference.subdirectory)="
        return try load(subdirectory + known.resolved, caller: caller, mode: offline ? .offline : .online, job: job)
    }

    /// Asks nothing of the network.
    func origin(_ text: String, caller: Caller) throws(MCFSError) -> any Origin {
        try origin(of: Reference(text, relativeTo: caller.workingDirectory), caller: caller, traffic)
    }

    /// As `LoadedReference.text`. Asks nothing of the network.
    func text(of text: String, caller: Caller) throws(MCFSError) -> String {
        let reference = try Reference(text, relativeTo: caller.workingDirectory)
        let subdirectory = reference.subdirectory.isRoot ? "" : "\(reference.subdirectory)="
        return subdirectory + (try origin(of: reference, caller: caller, traffic)).reference
    }

    /// What the origin says of a reference before any of its tree is read; empty where it does not answer.
    func labels(of text: String, caller: Caller, job: Job) throws(MCFSError) -> [String: String] {
        let origin = try origin(text, caller: caller)
        let resolution = try resolve(origin, mode: .onlineIfPossible, hints(of: origin.reference, job), job: job)
        do { return try origin.labels(of: resolution, deadline: Self.resolveDeadline(job)) } catch {
            try job.checkCancellation()
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
            let resolution = try origin.resolve(deadline: Self.resolveDeadline(job))
            hints.record(resolution)
            return resolution
        } catch {
            try job.checkCancellation()
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
            content: content, catalog: hints, progress: job,
            deadline: Deadline(after: Self.treeDeadline, cancellation: job.cancellation), layers: layers)
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
    /// What the user should know of it, in words.
    let problems: [String]

    /// Later references win where names clash, folders merge. A folder that is the upper of an earlier mount does to those
    /// before it what that mount remembers to have done to its tree.
    init(_ references: [LoadedReference], offline: Bool, traffic: OriginTraffic) throws(MCFSError) {
        var problems: [String] = []
        var builder = TreeBuilder()
        let isOne = references.count == 1 && references[0].reference.subdirectory.isRoot
        for (place, loaded) in references.enumerated() {
            let directory = loaded.reference.subdirectory
            if let path = loaded.localPath, let changes = try OldUpper(ofDirectory: path), !changes.isEmpty {
                if let problem = changes.problem { problems.append(problem) }
                if place > 0 {
                    try builder.apply(changes, at: directory)
                } else {
                    problems.append(
                        "\(path) is the upper of a mount and remembers what was deleted, renamed or changed of the tree below it; to see that, name that tree before it"
                    )
                }
            }
            if !isOne { try builder.merge(loaded.tree, at: directory) }
        }
        tree = isOne ? references[0].tree : try builder.build()
        self.problems = problems
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

extension TreeBuilder {
    fileprivate mutating func apply(_ changes: OldUpper, at directory: TreePath) throws(MCFSError) {
        // By the paths that the tree has, so before anything moves.
        for (path, value) in changes.metadata {
            change(
                directory.appending(path), permissions: value.permissions, uid: value.uid, gid: value.gid,
                modified: value.modified)
        }
        try rearrange(
            changes.marks.map { path, mark in
                switch mark {
                case .whiteout: (path, nil)
                case .redirect(let from): (path, from)
                }
            }, at: directory)
    }
}
