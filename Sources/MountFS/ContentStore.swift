package import ChunkStore
package import MCFSCore

/// Reads one file's content. `CachedFile` in a mount; something smaller in tests.
package protocol ContentReading: AnyObject, Sendable {
    /// As `CachedFile.read`.
    func read(_ range: ByteRange, makeWaiter: () -> any ReadWaiter) throws(MCFSError) -> ReadOutcome
    /// The content as a plain file, once all of it is local and checked: nobody changes its bytes or punches holes into
    /// them any more. Without a lock that a fetch holds.
    var completeFile: OwnedDescriptor? { get }
    /// As `CachedFile.generation` and `isStale`.
    var generation: Int { get }
    var isStale: Bool { get }
    /// As `CachedFile.expect`.
    func expect(_ range: ByteRange)
    /// As `CachedFile.expectRuns`.
    func expectRuns(_ run: @escaping @Sendable (UInt64) -> ByteRange?)
}

/// Where a mount's bytes come from. `ChunkCache` in a mount; something smaller in tests.
package protocol ContentStore: AnyObject, Sendable {
    func openContent(_ content: FileContent) throws(MCFSError) -> any ContentReading
    /// Bytes of it that are local.
    func localBytes(of id: BlobID, size: UInt64) -> UInt64
    /// As `ChunkCache.hasUncertainPages`.
    func hasUncertainPages(of id: BlobID, size: UInt64) -> Bool
    /// It is used, maybe from pages that the kernel has: others are evicted before it.
    func noteUse(of id: BlobID, size: UInt64)
}

extension CachedFile: ContentReading {}

extension ChunkCache: ContentStore {
    package func openContent(_ content: FileContent) -> any ContentReading { open(content) }
}
