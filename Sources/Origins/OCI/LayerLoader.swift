internal import Catalog
internal import Logging
internal import MCFSCore
internal import OCI
internal import Synchronization

/// Gets the entries of a manifest's layers: from the catalog where they are known, else by reading the layers.
struct LayerLoader {
    struct Layer: Sendable {
        /// Every `Content.source` is 0.
        var entries: [TreeEntry]
        var descriptor: SourceDescriptor
    }

    let store: any ImageStore
    let loading: TreeLoading
    let zstdWindow: ZstdWindow
    let logger: Logger
    /// Of all layers that are read.
    private let budget = MetadataBudget()

    init(store: any ImageStore, loading: TreeLoading, zstdWindow: ZstdWindow, logger: Logger) {
        self.store = store
        self.loading = loading
        self.zstdWindow = zstdWindow
        self.logger = logger
    }

    /// Layers read at once: what other pullers do, so that many small compressed ones take no longer.
    private static let threadsMax = 4

    /// In the order of the manifest.
    func load(_ manifest: Manifest) throws(MCFSError) -> [Layer] {
        let uses = try ArtifactLayout(manifest).uses
        var layers: [Layer?] = []
        // A digest that comes twice (empty layers do) is read once.
        var missing: [Descriptor] = []
        var seen: Set<Digest> = []
        for (descriptor, use) in zip(manifest.layers, uses) {
            switch use {
            case .none: layers.append(Layer(entries: [], descriptor: LayerSource(descriptor, .raw).descriptor))
            case .file(let entry):
                layers.append(Layer(entries: [entry], descriptor: LayerSource(descriptor, .raw).descriptor))
            case .tar:
                let known = known(descriptor)
                layers.append(known)
                if known == nil, seen.insert(descriptor.digest).inserted { missing.append(descriptor) }
            }
        }
        let read = try self.read(missing)
        var result: [Layer] = []
        // A layer may be named many times, and each time its entries are laid over all before.
        let applied = MetadataBudget()
        for (descriptor, layer) in zip(manifest.layers, layers) {
            guard let layer = layer ?? read[descriptor.digest] else { continue }
            try applied.take(entries: layer.entries.count, bytes: 0, of: store.name)
            result.append(layer)
        }
        return result
    }

    private func known(_ descriptor: Descriptor) -> Layer? {
        loading.catalog.layer(descriptor.digest).map { layer(descriptor, $0) }
    }

    private func read(_ missing: [Descriptor]) throws(MCFSError) -> [Digest: Layer] {
        guard !missing.isEmpty else { return [:] }
        let work = Work(count: missing.count)
        let body: @Sendable () -> Void = { work.run { index throws(MCFSError) in try self.index(missing[index]) } }
        // Fewer where the system gives no more: this thread does what is left.
        let threads = (1..<max(2, min(Self.threadsMax, missing.count))).compactMap { _ in
            try? startThread("mcfs-layers", body)
        }
        body()
        for thread in threads { thread.join() }
        let layers = try work.results()
        return Dictionary(zip(missing.map(\.digest), layers)) { first, _ in first }
    }

    private func index(_ descriptor: Descriptor) throws(MCFSError) -> Layer {
        let table = try loading.layers.table(
            of: descriptor.digest, progress: loading.progress, deadline: loading.deadline
        ) { (progress, deadline) throws(MCFSError) in
            // Another may have ended just now.
            if let known = loading.catalog.layer(descriptor.digest) { return known }
            let indexer = LayerIndexer(
                digest: descriptor.digest, size: descriptor.size,
                source: store.blob(descriptor.digest, size: descriptor.size), content: loading.content,
                progress: progress, isKernel: loading.isKernel, budget: budget, zstdWindow: zstdWindow)
            let table = try indexer.index(deadline: deadline)
            logger.debug(
                "a layer was indexed",
                metadata: ["digest": "\(descriptor.digest)", "entries": "\(table.entries.count)"])
            loading.catalog.saveLayer(descriptor.digest, table)
            return table
        }
        return layer(descriptor, table)
    }

    private func layer(_ descriptor: Descriptor, _ table: LayerTable) -> Layer {
        Layer(entries: table.entries, descriptor: LayerSource(descriptor, .coded(table.coding)).descriptor)
    }
}

/// Numbers to work off on several threads; the first error ends it.
private final class Work: Sendable {
    private struct State {
        var next = 0
        var layers: [LayerLoader.Layer?]
        var error: MCFSError?
    }

    private let state: Lock<State>

    init(count: Int) { state = Lock(State(layers: Array(repeating: nil, count: count))) }

    func run(_ body: (Int) throws(MCFSError) -> LayerLoader.Layer) {
        while let index = take() {
            do throws(MCFSError) {
                let layer = try body(index)
                state.withLock { $0.layers[index] = layer }
            } catch {
                state.withLock { $0.error = $0.error ?? error }
            }
        }
    }

    private func take() -> Int? {
        state.withLock { state in
            guard state.error == nil, state.next < state.layers.count else { return nil }
            state.next += 1
            return state.next - 1
        }
    }

    func results() throws(MCFSError) -> [LayerLoader.Layer] {
        try state.withLock { state -> Result<[LayerLoader.Layer], MCFSError> in
            state.error.map { .failure($0) } ?? .success(state.layers.compactMap { $0 })
        }.get()
    }
}
