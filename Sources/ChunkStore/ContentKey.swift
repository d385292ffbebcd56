package import MCFSCore

/// What the cache keeps a content under: its identity and its size. The same digest with another size is another content,
/// of which at most one can be true: an origin that lies about a size touches nothing that others have.
package struct ContentKey: Hashable, Sendable {
    package let id: BlobID
    /// Bytes.
    package let size: UInt64

    package init(_ id: BlobID, size: UInt64) {
        self.id = id
        self.size = size
    }
}
