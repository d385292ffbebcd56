package import MCFSCore

extension SourceDescriptor {
    fileprivate static let key = "kernelManifest"

    /// A file in the source that tells what the kernels of the tree need, and that the tree does not show; its `source`
    /// is 0. Kept as `OFFSET SIZE IDENTITY`.
    package var kernelManifest: Content? {
        get {
            let parts = self[Self.key]?.split(separator: " ") ?? []
            guard parts.count == 3, let offset = UInt64(parts[0]), let size = UInt64(parts[1]),
                let id = BlobID(parts[2])
            else { return nil }
            return Content(id: id, size: size, source: 0, offset: offset)
        }
        set { properties[Self.key] = newValue.map { "\($0.offset) \($0.size) \($0.id)" } }
    }
}

extension SourceTable {
    /// The manifests of all sources that have one.
    package var kernelManifests: [Content] {
        indices(having: SourceDescriptor.key).compactMap { number in
            var content = self[number].kernelManifest
            content?.source = number
            return content
        }
    }
}
