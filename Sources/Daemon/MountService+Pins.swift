internal import Catalog
internal import ChunkStore
internal import ControlAPI
internal import Logging
internal import MCFSCore
internal import Origins
internal import Synchronization

extension MountService {
    /// What a pin or unpin request comes to: references with the globs that select the same files in each.
    private struct PinTarget {
        var reference: String
        var include: [String]
        var exclude: [String]
    }

    func pins() throws(MCFSError) -> PinList {
        PinList(
            pins: try catalog.pins().map {
                PinList.Pin(reference: $0.reference, resolved: $0.resolved, include: $0.include, exclude: $0.exclude)
            })
    }

    func pin(_ request: SelectionRequest, job: Job) throws(MCFSError) -> PinResult {
        let pins = try newPins(request, job: job)
        try change { () throws(MCFSError) in
            let known = try catalog.pins()
            for pin in pins where !known.contains(pin) { try catalog.add(pin) }
        }
        return PinResult(references: pins.map(\.reference), bytesPinned: cache.usage.bytesPinned)
    }

    /// Drops the pins of a reference; with globs, only what they name is no longer pinned.
    func unpin(_ request: SelectionRequest) throws(MCFSError) -> PinResult {
        let targets = try pinTargets(request)
        try change { () throws(MCFSError) in
            var found = false
            for target in targets {
                let old = try catalog.pins().filter {
                    $0.reference == target.reference || $0.resolved == target.reference
                }
                for reference in Set(old.map(\.reference)) {
                    found = try catalog.removePins(reference: reference) || found
                }
                if target.include.isEmpty { continue }
                for var pin in old {
                    pin.exclude += target.include
                    try catalog.add(pin)
                }
            }
            if !found {
                throw MCFSError(.notFound, "nothing of \(request.target) is pinned; 'mcfs status' shows what is")
            }
        }
        return PinResult(references: targets.map(\.reference), bytesPinned: cache.usage.bytesPinned)
    }

    private func newPins(_ request: SelectionRequest, job: Job) throws(MCFSError) -> [Catalog.Pin] {
        let targets = try pinTargets(request)
        if let (mount, path) = mounts.mount(holding: request.target) {
            _ = try mount.selection(at: path, filter: PathFilter(include: [], exclude: []))
            var pins: [Catalog.Pin] = []
            for target in targets {
                guard let loaded = mount.references.first(where: { $0.origin.reference == target.reference }) else {
                    continue
                }
                pins.append(try newPin(target, of: loaded))
            }
            return pins
        }
        let loaded = try loader.load(request.target, caller: request.caller, mode: .catalogFirst, job: job)
        return try targets.map { target throws(MCFSError) in try newPin(target, of: loaded) }
    }

    /// A pin means nothing without the tree, which a mount can do without: it is kept first.
    private func newPin(_ target: PinTarget, of loaded: LoadedReference) throws(MCFSError) -> Catalog.Pin {
        let resolution = loaded.resolution
        if try catalog.tree(resolution.treeKey) == nil { try catalog.save(loaded.tree, key: resolution.treeKey) }
        return Catalog.Pin(
            reference: loaded.origin.reference, resolved: resolution.resolved, treeKey: resolution.treeKey,
            include: target.include, exclude: target.exclude)
    }

    /// A path in a mount stands for its part of each of the mount's references.
    private func pinTargets(_ request: SelectionRequest) throws(MCFSError) -> [PinTarget] {
        guard let (mount, path) = mounts.mount(holding: request.target) else {
            let origin = try loader.origin(request.target, caller: request.caller)
            return [PinTarget(reference: origin.reference, include: request.include, exclude: request.exclude)]
        }
        return mount.references.compactMap { loaded in
            let below = loaded.reference.subdirectory
            var include = request.include
            var exclude = request.exclude
            if let inside = path.removing(prefix: below) {
                let prefix = inside.isRoot ? "" : "/" + Self.escaped(inside) + "/"
                if !prefix.isEmpty {
                    include = include.isEmpty ? [String(prefix.dropLast())] : include.map { prefix + Self.relative($0) }
                    exclude = exclude.map { prefix + Self.relative($0) }
                }
            } else if below.removing(prefix: path) == nil {
                return nil
            }
            return PinTarget(reference: loaded.origin.reference, include: include, exclude: exclude)
        }
    }

    /// A glob without `/` means any depth; below a prefix that has to be said.
    private static func relative(_ glob: String) -> String {
        if glob.hasPrefix("/") { return String(glob.drop { $0 == "/" }) }
        return glob.contains("/") ? glob : "**/" + glob
    }

    private static func escaped(_ path: TreePath) -> String {
        var result: [UInt8] = []
        for byte in path.bytes {
            if "*?[\\".utf8.contains(byte) { result.append(UInt8(ascii: "\\")) }
            result.append(byte)
        }
        return String(decoding: result, as: UTF8.self)
    }

    // MARK: The cache's set

    private func change(_ body: () throws(MCFSError) -> Void) throws(MCFSError) {
        let result: Result<Void, MCFSError> = pinLock.withLock { _ in
            do throws(MCFSError) {
                try body()
                cache.setPinned(try pinnedContents())
                return .success(())
            } catch { return .failure(error) }
        }
        try result.get()
    }

    /// Tells the cache again what is pinned.
    func updatePinned() throws(MCFSError) { try change { () throws(MCFSError) in } }

    func pinnedContents() throws(MCFSError) -> Set<ContentKey> {
        var result: Set<ContentKey> = []
        for pin in try catalog.pins() {
            guard let tree = try catalog.tree(pin.treeKey) else {
                logger.warning("a pin's tree is not in the catalog", metadata: ["reference": "\(pin.reference)"])
                continue
            }
            let filter = PathFilter(include: pin.include, exclude: pin.exclude)
            for content in try Selection(tree: tree, sources: nil, at: .root, filter: filter).contents() {
                result.insert(ContentKey(content.id, size: content.size))
            }
        }
        return result
    }
}
