/// Media types of manifests and layers (image-spec media-types.md; distribution manifest-v2-2.md).
package enum MediaType {
    package static let index = "application/vnd.oci.image.index.v1+json"
    package static let manifest = "application/vnd.oci.image.manifest.v1+json"
    package static let dockerList = "application/vnd.docker.distribution.manifest.list.v2+json"
    package static let dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
    package static let imageConfig = "application/vnd.oci.image.config.v1+json"
    package static let dockerConfig = "application/vnd.docker.container.image.v1+json"
    package static let empty = "application/vnd.oci.empty.v1+json"

    /// For the `Accept` header of manifests: without all four, registries choose for the client or answer schema 1.
    static let acceptedManifests = [index, manifest, dockerList, dockerManifest].joined(separator: ", ")

    static func isIndex(_ type: String) -> Bool { type == index || type == dockerList }
    static func isManifest(_ type: String) -> Bool { type == manifest || type == dockerManifest }
    static func isImageConfig(_ type: String) -> Bool { type == imageConfig || type == dockerConfig }

    /// Without parameters, in lower case, as `Content-Type` headers have to be compared.
    static func essence(_ type: String) -> String {
        let end = type.firstIndex(of: ";") ?? type.endIndex
        return type[..<end].trimmingWhitespace().lowercased()
    }

    /// Whether the type names a tar, compressed or not: `….tar`, `….tar+gzip`, `….tar.zstd`, `…+gzip`.
    static func isTar(_ type: String) -> Bool {
        type.hasSuffix(".tar") || type.contains(".tar+") || type.contains(".tar.") || type.hasSuffix("+gzip")
            || type.hasSuffix("+zstd")
    }
}

extension StringProtocol {
    /// Without blanks and tabs at both ends.
    func trimmingWhitespace() -> String {
        var text = Substring(self)
        while let first = text.first, first == " " || first == "\t" { text.removeFirst() }
        while let last = text.last, last == " " || last == "\t" || last == "\r" || last == "\n" { text.removeLast() }
        return String(text)
    }
}
