internal import MCFSCore
internal import OCI

/// A layer as a stored tree names it.
struct LayerSource: Sendable {
    enum Form: Sendable, Equatable {
        /// The layer is a file.
        case raw
        case coded(LayerCoding)
        /// Compressed, with what its first bytes tell: in trees that mcfs 0.1 stored.
        case compressed
    }

    var digest: Digest
    /// Bytes, as stored at the origin.
    var size: UInt64
    var mediaType: String
    var form: Form

    private static let kind = "oci-layer"

    var descriptor: SourceDescriptor {
        SourceDescriptor([
            "kind": Self.kind, "digest": digest.description, "size": String(size), "mediaType": mediaType,
            "coding": Self.word(for: form),
        ])
    }

    init(_ layer: Descriptor, _ form: Form) {
        digest = layer.digest
        size = layer.size
        mediaType = layer.mediaType
        self.form = form
    }

    /// nil for what `descriptor` cannot have made.
    init?(_ descriptor: SourceDescriptor) {
        guard descriptor["kind"] == Self.kind, let digest = descriptor["digest"].flatMap({ Digest($0) }),
            let size = descriptor["size"].flatMap({ OutsideNumber.byteCount($0) }),
            let form = descriptor["coding"].flatMap(Self.form(of:))
        else { return nil }
        self.digest = digest
        self.size = size
        self.form = form
        mediaType = descriptor["mediaType"] ?? ""
    }

    private static func word(for form: Form) -> String {
        switch form {
        case .raw: "raw"
        case .coded(let coding): coding.rawValue
        case .compressed: "compressed"
        }
    }

    /// `tar` is what mcfs 0.1 called a layer that it took for a plain tar; the catalog keeps no such tree that is wrong.
    private static func form(of word: String) -> Form? {
        switch word {
        case "raw": .raw
        case "tar": .coded(.plain)
        case "compressed": .compressed
        default: LayerCoding(rawValue: word).map { .coded($0) }
        }
    }
}
