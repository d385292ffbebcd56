/// What one layer of an image holds. Follows from the bytes of the layer alone, so it is kept by the layer's digest.
package struct LayerTable: Sendable, Hashable {
    package var coding: LayerCoding
    /// In the layer's order. Every `Content.source` is 0, the layer; every offset is one in its uncompressed tar.
    package var entries: [TreeEntry]

    package init(coding: LayerCoding, entries: [TreeEntry]) {
        self.coding = coding
        self.entries = entries
    }
}

/// How the tar of a layer is stored.
package enum LayerCoding: String, Sendable, CaseIterable {
    /// Not compressed: what lies at an offset of the tar lies there in the layer.
    case plain
    case gzip, zstd
}
