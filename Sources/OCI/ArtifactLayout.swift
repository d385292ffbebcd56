internal import Foundation
package import MCFSCore

/// What the layers of a manifest are: tars to lay over each other, or files by themselves.
///
/// Conventions read: OCI and Docker images, ModelPack (model-spec annotations.md), its forerunner `cnai`, ORAS
/// (oras-go content/file), KitOps (pkg/lib/constants), Docker Model Runner (docker/model-spec), Ollama.
package struct ArtifactLayout: Sendable {
    package enum Use: Hashable, Sendable {
        /// Nothing to show.
        case none
        /// A tar, compressed or not, whose names count from the root.
        case tar
        /// The layer's bytes are the file's.
        case file(TreeEntry)
    }

    /// One for each layer, in the order of the manifest. Every `Content.source` is 0: the layer.
    package let uses: [Use]

    /// - Throws: `corrupt` for names that lead outside of the tree, `unsupported` for a compressed file.
    package init(_ manifest: Manifest) throws(MCFSError) {
        var naming = Naming(manifest.layers)
        var uses: [Use] = []
        for layer in manifest.layers { uses.append(try Self.use(of: layer, &naming)) }
        self.uses = uses
    }

    private static let pathAnnotations = ["org.cncf.model.filepath", "org.cnai.model.filepath"]
    private static let metadataAnnotations = ["org.cncf.model.file.metadata+json", "org.cnai.model.file.metadata+json"]

    private static func use(of layer: Descriptor, _ naming: inout Naming) throws(MCFSError) -> Use {
        let type = layer.mediaType
        if type == MediaType.empty { return .none }
        if let path = pathAnnotations.lazy.compactMap({ layer.annotations[$0] }).first {
            return isTar(type) ? .tar : try file(layer, named: path)
        }
        if let title = layer.annotations["org.opencontainers.image.title"] {
            // ORAS gives plain files the type of a tar; only this annotation makes one of them.
            return layer.annotations["io.deis.oras.content.unpack"] == "true" ? .tar : try file(layer, named: title)
        }
        return isTar(type) ? .tar : try file(layer, named: naming.name(for: layer))
    }

    /// Model types end in `.raw` or `.tar`, each perhaps with `+gzip`; Docker's in `.tar`; packed kernel caches are
    /// `application/cache.KIND.content.layer.v1+KIND` and always a tar.
    private static func isTar(_ type: String) -> Bool {
        if type.contains(".raw") { return false }
        return MediaType.isTar(type) || type.hasPrefix("application/cache.") && type.contains(".content.layer.")
    }

    private static func file(_ layer: Descriptor, named name: String) throws(MCFSError) -> Use {
        let path: TreePath
        do { path = try TreePath(name) } catch {
            throw MCFSError(.corrupt, "layer \(layer.digest) has a bad file name: \(error.message)")
        }
        guard !path.isRoot else { throw MCFSError(.corrupt, "layer \(layer.digest) has an empty file name") }
        let metadata = metadataAnnotations.lazy.compactMap { layer.annotations[$0] }.first.flatMap(Metadata.init)
        if metadata?.isDirectory == true {
            return .file(
                TreeEntry(
                    path, .directory, permissions: metadata?.permissions ?? 0o755,
                    modified: metadata?.modified ?? .init(seconds: 0)))
        }
        guard !layer.mediaType.hasSuffix("+gzip"), !layer.mediaType.hasSuffix("+zstd") else {
            throw MCFSError(
                .unsupported,
                "layer \(layer.digest) is the compressed file '\(path)', which cannot be read in parts; pack it as \(ArtifactLayout.rawExample)"
            )
        }
        let content = Content(id: blobID(layer), size: layer.size, source: 0, offset: 0)
        return .file(
            TreeEntry(
                path, .file(content), permissions: metadata?.permissions ?? 0o644,
                modified: metadata?.modified ?? Timestamp(seconds: 0)))
    }

    private static let rawExample = "application/vnd.cncf.model.weight.v1.raw"

    /// A layer that is a file as a whole has the layer's digest.
    private static func blobID(_ layer: Descriptor) -> BlobID {
        BlobID(layer.digest) ?? BlobID(origin: "layer", layer.digest.description, "0", String(layer.size))
    }

    /// ModelPack's description of the packed file. Its owner is that of the machine that packed it: not used.
    private struct Metadata {
        var permissions: UInt16?
        var modified: Timestamp?
        var isDirectory: Bool

        private struct Fields: Decodable {
            var mode: UInt32?
            var mtime: String?
            var typeflag: UInt32?
        }

        init?(_ text: String) {
            guard let fields = try? JSONDecoder().decode(Fields.self, from: Data(text.utf8)) else { return nil }
            permissions = fields.mode.map { UInt16($0 & 0o7777) }
            modified = fields.mtime.flatMap(Self.timestamp)
            // A tar's type flag, as the character's code or as the digit itself.
            isDirectory = fields.typeflag == 5 || fields.typeflag == UInt32(UInt8(ascii: "5"))
        }

        private static func timestamp(_ text: String) -> Timestamp? {
            // Go writes up to nine digits of a second, which the parser does not take.
            var text = text
            if let dot = text.firstIndex(of: ".") {
                let end = text[text.index(after: dot)...].firstIndex { !$0.isNumber } ?? text.endIndex
                text.removeSubrange(dot..<end)
            }
            guard let date = try? Date(text, strategy: .iso8601) else { return nil }
            return Int64(exactly: date.timeIntervalSince1970.rounded(.down)).map { Timestamp(seconds: $0) }
        }
    }
}

/// Names for layers that have none.
private struct Naming {
    private var weights: [String: (total: Int, given: Int)] = [:]
    private var given: [String: Int] = [:]

    init(_ layers: [Descriptor]) {
        for layer in layers where layer.annotations["org.cncf.model.filepath"] == nil {
            if let kind = Self.weightKind(layer.mediaType) { weights[kind, default: (0, 0)].total += 1 }
        }
    }

    mutating func name(for layer: Descriptor) -> String {
        let type = layer.mediaType
        if let kind = Self.weightKind(type), var count = weights[kind] {
            count.given += 1
            weights[kind] = count
            guard count.total > 1 else { return "model.\(kind)" }
            return "model-\(Self.padded(count.given))-of-\(Self.padded(count.total)).\(kind)"
        }
        let docker = "application/vnd.docker.ai."
        if type.hasPrefix(docker) {
            switch type.dropFirst(docker.count) {
            case "gguf.v3.mmproj", "mmproj": return unique("model", ".mmproj")
            case "gguf.v3.lora": return unique("adapter", ".gguf")
            case "chat.template.jinja": return unique("template", ".jinja")
            case "dduf": return unique("model", ".dduf")
            case "license": return unique("LICENSE", "")
            default: break
            }
        }
        let ollama = "application/vnd.ollama.image."
        if type.hasPrefix(ollama) {
            if let name = layer.name, !name.isEmpty { return name }
            let kind = String(type.dropFirst(ollama.count))
            switch kind {
            case "model", "projector", "adapter", "draft": return unique(kind, ".gguf")
            default:
                if !kind.isEmpty, kind.utf8.allSatisfy({ ("a"..."z").contains(Character(Unicode.Scalar($0))) }) {
                    return unique(kind, "")
                }
            }
        }
        return "blobs/\(layer.digest.algorithm.rawValue)-\(layer.digest.hex)"
    }

    /// `gguf` or `safetensors` for layers that hold weights.
    private static func weightKind(_ type: String) -> String? {
        switch type {
        case "application/vnd.docker.ai.gguf.v3", "application/vnd.cncf.model.weight.v1.gguf": "gguf"
        case "application/vnd.docker.ai.safetensors", "application/vnd.cncf.model.weight.v1.safetensors": "safetensors"
        default: nil
        }
    }

    private mutating func unique(_ name: String, _ suffix: String) -> String {
        given[name + suffix, default: 0] += 1
        let count = given[name + suffix] ?? 1
        return count == 1 ? name + suffix : "\(name)-\(count)\(suffix)"
    }

    private static func padded(_ number: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }
}
