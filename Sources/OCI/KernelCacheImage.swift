package import MCFSCore

/// Images that hold a kernel cache as MCV packs it: the cache in one folder, a manifest of it in another.
package struct KernelCacheImage: Sendable {
    private static let labelPrefixes = [
        "cache.triton.image/", "cache.vllm.image/", "cache.habana.image/", "io.kserve.km/",
    ]
    private static let folders = ["io.triton.cache", "io.vllm.cache", "io.habana.cache"]
    private static let manifests = ["io.triton.manifest/manifest.json", "io.vllm.manifest/manifest.json"]
    private let prefixes: [TreePath]

    /// nil for other images.
    package init?(_ manifest: Manifest, _ config: ImageConfig?) {
        let isLabelled =
            config?.labels.keys.contains { key in Self.labelPrefixes.contains(where: key.hasPrefix) } ?? false
        let isArtifact = manifest.layers.contains {
            $0.mediaType.hasPrefix("application/cache.") && $0.mediaType.contains(".content.layer.")
        }
        guard isLabelled || isArtifact else { return nil }
        prefixes = Self.folders.compactMap { try? TreePath($0) }
    }

    /// Whether any layer has a cache where one should be. An image without is shown as it is.
    package func hasCache(_ layers: [[TreeEntry]]) -> Bool {
        layers.contains { layer in
            layer.contains { entry in prefixes.contains { entry.path.removing(prefix: $0) != nil } }
        }
    }

    /// The list of what the kernels need that a layer brings; nil where it has none.
    package func manifest(in layer: [TreeEntry]) -> Content? {
        let paths = Self.manifests.compactMap { try? TreePath($0) }
        for entry in layer.reversed() {
            if case .file(let content) = entry.kind, paths.contains(entry.path) { return content }
        }
        return nil
    }

    /// A layer's entries with the cache's folder as the root, and nothing else.
    package func present(_ layer: [TreeEntry]) -> [TreeEntry] {
        layer.compactMap { entry in
            if case .opaque = entry.kind, entry.path.isRoot { return entry }
            guard let path = moved(entry.path) else { return nil }
            var entry = entry
            entry.path = path
            switch entry.kind {
            case .hardLink(let target):
                guard let target = moved(target) else { return nil }
                entry.kind = .hardLink(target)
            case .whiteout where path.isRoot:
                // The folder as a whole goes: all that layers below have in it.
                entry.kind = .opaque
            case .opaque: break
            default: if path.isRoot { return nil }
            }
            return entry
        }
    }

    private func moved(_ path: TreePath) -> TreePath? {
        prefixes.lazy.compactMap { path.removing(prefix: $0) }.first
    }
}
