package import Catalog
package import ChunkStore
package import MCFSCore

/// What a mount presents, as a plain type: no FUSE in it. Thread safe.
package final class MountFS: Sendable {
    /// `sources[i]` serves `tree.sources[i]`.
    package init(tree: Tree, sources: [any ByteSource], cache: ChunkCache) {}
}
