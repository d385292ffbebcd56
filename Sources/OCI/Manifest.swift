internal import Foundation
package import MCFSCore

/// An image manifest (image-spec manifest.md; Docker schema 2 has the same shape).
package struct Manifest: Hashable, Sendable, Decodable {
    package var artifactType: String?
    package var config: Descriptor?
    package var layers: [Descriptor]
    package var annotations: [String: String]

    package init(
        artifactType: String? = nil, config: Descriptor? = nil, layers: [Descriptor],
        annotations: [String: String] = [:]
    ) {
        self.artifactType = artifactType
        self.config = config
        self.layers = layers
        self.annotations = annotations
    }

    /// Most layers of an image: container runtimes take 128; models of a layer for each file have some thousands.
    package static let layersMax = 16_384

    private enum Key: String, CodingKey { case artifactType, config, layers, annotations }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        artifactType = try container.decodeIfPresent(String.self, forKey: .artifactType)
        config = try container.decodeIfPresent(Descriptor.self, forKey: .config)
        layers = try container.decodeIfPresent([Descriptor].self, forKey: .layers) ?? []
        let values = try? container.decodeIfPresent([String: String?].self, forKey: .annotations)
        annotations = (values ?? [:])?.compactMapValues { $0 } ?? [:]
    }
}

/// An image index or manifest list: several manifests under one name.
package struct ImageIndex: Hashable, Sendable, Decodable {
    package var manifests: [Descriptor]

    package init(manifests: [Descriptor]) { self.manifests = manifests }
}

/// The part of an image configuration that mcfs reads.
package struct ImageConfig: Hashable, Sendable, Decodable {
    package var labels: [String: String]

    package init(labels: [String: String]) { self.labels = labels }

    /// - Throws: `corrupt`.
    package init(_ bytes: [UInt8], what: String) throws(MCFSError) {
        self = try decodeJSON(ImageConfig.self, bytes, what: what)
    }

    /// Whether a manifest's configuration is one of an image, as its type says.
    package static func isImage(_ descriptor: Descriptor) -> Bool { MediaType.isImageConfig(descriptor.mediaType) }

    private enum Key: String, CodingKey { case config }
    private enum RuntimeKey: String, CodingKey { case labels = "Labels" }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        // Ollama writes other things than an object here; an image without labels is still an image.
        let runtime = try? container.nestedContainer(keyedBy: RuntimeKey.self, forKey: .config)
        let values = try? runtime?.decodeIfPresent([String: String?].self, forKey: .labels)
        labels = (values ?? [:])?.compactMapValues { $0 } ?? [:]
    }
}

/// A document that a name in a registry or layout leads to.
package enum ManifestDocument: Hashable, Sendable {
    case manifest(Manifest)
    case index(ImageIndex)

    /// Longest manifest, index or configuration that is read, in bytes. Registries must accept 4 MiB; larger ones exist.
    package static let bytesMax = 16 << 20

    private struct Outline: Decodable {
        struct Present: Decodable { init(from decoder: any Decoder) throws {} }
        var schemaVersion: Int?
        var mediaType: String?
        var manifests: Present?
        var layers: Present?
        var fsLayers: Present?
    }

    /// - Parameter what: for messages.
    /// - Throws: `corrupt`; `unsupported` for Docker's schema 1.
    package init(_ bytes: [UInt8], what: String) throws(MCFSError) {
        let outline = try decodeJSON(Outline.self, bytes, what: what)
        if outline.schemaVersion == 1 || outline.fsLayers != nil {
            throw MCFSError(
                .unsupported, "\(what) is a Docker schema 1 manifest, which no current tool reads; push the image again"
            )
        }
        let type = outline.mediaType.map(MediaType.essence) ?? ""
        // A document that could be read as either is a known trick: what was signed and what is run would differ.
        if outline.manifests != nil, outline.layers != nil {
            throw MCFSError(.corrupt, "\(what) has both manifests and layers, so it is neither an index nor an image")
        }
        if MediaType.isIndex(type) || (!MediaType.isManifest(type) && outline.manifests != nil) {
            guard outline.manifests != nil else { throw MCFSError(.corrupt, "\(what) is an index without manifests") }
            self = .index(try decodeJSON(ImageIndex.self, bytes, what: what))
        } else {
            guard outline.layers != nil || MediaType.isManifest(type) else {
                throw MCFSError(.corrupt, "\(what) is neither an image manifest nor an index")
            }
            let manifest = try decodeJSON(Manifest.self, bytes, what: what)
            guard manifest.layers.count <= Manifest.layersMax else {
                throw MCFSError(
                    .unsupported,
                    "\(what) has \(manifest.layers.count) layers; mcfs reads at most \(Manifest.layersMax)")
            }
            self = .manifest(manifest)
        }
    }
}

/// - Throws: `corrupt`, with what is wrong where.
func decodeJSON<Value: Decodable>(_ type: Value.Type, _ bytes: [UInt8], what: String) throws(MCFSError) -> Value {
    guard bytes.count <= ManifestDocument.bytesMax else {
        throw MCFSError(
            .corrupt, "\(what) is \(bytes.count) bytes long; mcfs reads at most \(ManifestDocument.bytesMax)")
    }
    do {
        return try JSONDecoder().decode(type, from: Data(bytes))
    } catch let error as DecodingError {
        throw MCFSError(.corrupt, "\(what) cannot be read: \(explanation(of: error))")
    } catch {
        throw MCFSError(.corrupt, "\(what) cannot be read: it is not JSON")
    }
}

private func explanation(of error: DecodingError) -> String {
    func place(_ path: [any CodingKey]) -> String {
        path.isEmpty
            ? "the document" : path.map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".")
    }
    switch error {
    case .dataCorrupted(let context): return "\(place(context.codingPath)) is not valid"
    case .keyNotFound(let key, let context): return "\(place(context.codingPath + [key])) is missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context):
        return "\(place(context.codingPath)) has another type than it should"
    @unknown default: return "it is not as it should be"
    }
}
