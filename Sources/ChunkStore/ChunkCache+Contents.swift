package import MCFSCore

extension ChunkCache {
    /// What is local, whole or in part, and how many bytes of each. Waits until it is known what is local.
    package var localContents: [(id: BlobID, bytes: UInt64)] { space.contents.map { ($0.key.id, $0.bytes) } }
}
