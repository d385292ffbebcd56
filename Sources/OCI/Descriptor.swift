package import MCFSCore

/// Names a blob or a manifest (image-spec descriptor.md). Decoding refuses digests that mcfs cannot check and sizes
/// that nothing has.
package struct Descriptor: Hashable, Sendable, Decodable {
    package var mediaType: String
    package var digest: Digest
    /// Bytes.
    package var size: UInt64
    package var annotations: [String: String]
    package var platform: Platform?
    package var artifactType: String?
    /// Ollama's own addition to tensor layers.
    package var name: String?

    package init(
        mediaType: String, digest: Digest, size: UInt64, annotations: [String: String] = [:], platform: Platform? = nil,
        artifactType: String? = nil, name: String? = nil
    ) {
        self.mediaType = mediaType
        self.digest = digest
        self.size = size
        self.annotations = annotations
        self.platform = platform
        self.artifactType = artifactType
        self.name = name
    }

    private enum Key: String, CodingKey { case mediaType, digest, size, annotations, platform, artifactType, name }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        mediaType = MediaType.essence(try container.decodeIfPresent(String.self, forKey: .mediaType) ?? "")
        digest = try container.decode(Digest.self, forKey: .digest)
        guard let size = OutsideNumber.byteCount(try container.decode(Int64.self, forKey: .size)) else {
            throw DecodingError.dataCorruptedError(
                forKey: .size, in: container, debugDescription: "a size that nothing has")
        }
        self.size = size
        // Values other than strings are against the specification; such an annotation counts as absent.
        let values = try? container.decodeIfPresent([String: String?].self, forKey: .annotations)
        annotations = (values ?? [:])?.compactMapValues { $0 } ?? [:]
        platform = try container.decodeIfPresent(Platform.self, forKey: .platform)
        artifactType = try container.decodeIfPresent(String.self, forKey: .artifactType)
        name = try? container.decodeIfPresent(String.self, forKey: .name)
    }
}

/// What an entry of an index is for.
package struct Platform: Hashable, Sendable, Decodable, CustomStringConvertible {
    package var os: String
    package var architecture: String
    package var variant: String?

    package init(os: String, architecture: String, variant: String? = nil) {
        self.os = os
        self.architecture = architecture
        self.variant = variant
    }

    private enum Key: String, CodingKey { case os, architecture, variant }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        os = try container.decodeIfPresent(String.self, forKey: .os) ?? ""
        architecture = try container.decodeIfPresent(String.self, forKey: .architecture) ?? ""
        variant = try container.decodeIfPresent(String.self, forKey: .variant)
    }

    package var description: String {
        "\(os)/\(architecture)" + (variant.map { $0.isEmpty ? "" : "/\($0)" } ?? "")
    }
}
