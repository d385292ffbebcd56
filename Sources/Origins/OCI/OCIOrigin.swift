package import Catalog
package import Logging
package import MCFSCore
internal import OCI
package import Transport

/// An image, model or artifact in a registry (`oci://`) or in an image layout (`oci-layout:`).
package final class OCIOrigin: Origin {
    package let reference: String
    private let place: Place
    private let zstdWindow: ZstdWindow
    private let logger: Logger

    private enum Place: Sendable {
        case registry(RegistryClient)
        case layout(ImageLayout)

        var store: any ImageStore {
            switch self {
            case .registry(let client): client
            case .layout(let layout): layout
            }
        }
    }

    /// Part of tree keys: raised when the same manifest is presented in another way than before.
    private static let presentation = 1
    /// Of one request that is not a read: a manifest, a tag.
    private static let requestTimeout = Duration.seconds(60)

    /// - Throws: `usage` for a malformed reference, `configuration` for a `hosts.toml` or a variable that cannot be used.
    package init(_ reference: String, environment: Environment, http: HTTPClient, logger: Logger) throws(MCFSError) {
        self.reference = reference
        self.logger = logger
        zstdWindow = try ZstdWindow(environment)
        if reference.hasPrefix(ImageLayout.scheme) {
            place = .layout(try ImageLayout(reference))
        } else {
            let image = try ImageReference(reference)
            place = .registry(try RegistryClient(image, environment: environment, http: http, logger: logger))
        }
    }

    package func resolve(deadline: Deadline) throws(MCFSError) -> Catalog.Resolution {
        let platform = PlatformChoice.current
        let root: Digest
        let resolved: String
        switch place {
        case .registry(let client):
            root = try client.resolve(deadline: deadline)
            resolved = client.image.resolved(to: root)
        case .layout(let layout):
            root = try layout.resolve(for: platform, deadline: deadline)
            resolved = layout.resolved(to: root)
        }
        let selected = try place.store.select(root, for: platform, deadline: deadline)
        return Catalog.Resolution(reference: reference, resolved: resolved, treeKey: Self.treeKey(selected.digest))
    }

    static func treeKey(_ manifest: Digest) -> String {
        "oci-\(manifest.algorithm.rawValue)-\(manifest.hex)-\(presentation)"
    }

    /// The manifest that a tree key names; nil for keys of other presentations.
    static func manifest(ofTreeKey key: String) -> Digest? {
        let parts = key.split(separator: "-")
        guard parts.count == 4, parts[0] == "oci", parts[3] == "\(presentation)" else { return nil }
        return Digest("\(parts[1]):\(parts[2])")
    }

    package func tree(of resolution: Catalog.Resolution, loading: TreeLoading) throws(MCFSError) -> Tree {
        let store = place.store
        let deadline = loading.deadline.earlier(Deadline(after: Self.requestTimeout))
        let manifest = try manifest(of: resolution, deadline: deadline)
        let config = try config(of: manifest, deadline: deadline)
        let labelled = KernelCacheImage(manifest, config)
        let layers = try LayerLoader(
            store: store, loading: loading, zstdWindow: zstdWindow, logger: logger
        ).load(manifest)
        let kernelCache = labelled.flatMap { $0.hasCache(layers.map(\.entries)) ? $0 : nil }
        var builder = TreeBuilder()
        for layer in layers {
            let entries = kernelCache?.present(layer.entries) ?? layer.entries
            var descriptor = layer.descriptor
            if let manifest = kernelCache?.manifest(in: layer.entries) { descriptor.kernelManifest = manifest }
            try builder.apply(layer: entries, sources: [descriptor])
        }
        return try builder.build()
    }

    package func labels(of resolution: Catalog.Resolution, deadline: Deadline) throws(MCFSError) -> [String: String] {
        let deadline = deadline.earlier(Deadline(after: Self.requestTimeout))
        return try config(of: manifest(of: resolution, deadline: deadline), deadline: deadline)?.labels ?? [:]
    }

    private func manifest(of resolution: Catalog.Resolution, deadline: Deadline) throws(MCFSError) -> Manifest {
        let store = place.store
        let digest: Digest
        if let named = Self.manifest(ofTreeKey: resolution.treeKey) {
            digest = named
        } else {
            digest = try resolveDigest(of: resolution, deadline: deadline)
        }
        guard
            case .manifest(let manifest) = try ManifestDocument(
                store.manifest(digest, deadline: deadline), what: "the manifest \(digest) of \(store.name)")
        else { throw MCFSError(.corrupt, "\(digest) of \(store.name) is an index where an image was expected") }
        return manifest
    }

    /// For a tree key of an older mcfs.
    private func resolveDigest(of resolution: Catalog.Resolution, deadline: Deadline) throws(MCFSError) -> Digest {
        guard let at = resolution.resolved.lastIndex(of: "@"),
            let root = Digest(resolution.resolved[resolution.resolved.index(after: at)...])
        else { throw MCFSError(.failed, "'\(resolution.resolved)' is no resolved reference of an image") }
        return try place.store.select(root, for: .current, deadline: deadline).digest
    }

    /// nil for artifacts, whose configuration is something else.
    private func config(of manifest: Manifest, deadline: Deadline) throws(MCFSError) -> ImageConfig? {
        guard let descriptor = manifest.config, ImageConfig.isImage(descriptor) else { return nil }
        let bytes = try place.store.bytes(of: descriptor, what: "the configuration", deadline: deadline)
        return try ImageConfig(bytes, what: "the configuration \(descriptor.digest) of \(place.store.name)")
    }

    package func source(
        _ descriptor: SourceDescriptor, of resolution: Catalog.Resolution
    ) throws(MCFSError) -> any ByteSource {
        guard let layer = LayerSource(descriptor) else {
            throw MCFSError(.failed, "a stored tree names a source that is no layer; remove the tree from the cache")
        }
        let blob = place.store.blob(layer.digest, size: layer.size)
        switch layer.form {
        case .raw, .coded(.plain): return blob
        case .coded(let coding):
            return DecompressedSource(
                blob, size: layer.size, coding: coding, digest: layer.digest, zstdWindow: zstdWindow)
        case .compressed:
            return DecompressedSource(
                blob, size: layer.size, coding: nil, digest: layer.digest, zstdWindow: zstdWindow)
        }
    }
}
