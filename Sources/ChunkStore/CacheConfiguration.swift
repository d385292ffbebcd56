package import MCFSCore

package struct CacheConfiguration: Sendable {
    /// The unit of fetching, in bytes. Contents begun with another one keep it.
    package var chunkSize: UInt64 = 1 << 20
    /// Hard bound for what the cache keeps on disk, in bytes.
    package var bytesMax: UInt64 = 50 << 30
    /// A read that cannot be answered in this time fails.
    package var readDeadline: Duration = .seconds(60)
    /// Threads that fetch: also the most range requests at once.
    package var fetchThreads = 16
    /// Threads that write what came, and as many that hash it.
    package var storeThreads = 2
    /// Bound of the bytes that were asked for and are not on disk yet.
    package var inFlightBytesMax: UInt64 = 128 << 20
    /// How often what was written is synced, so that a power cut loses little.
    package var syncInterval: Duration = .seconds(5)
    /// Names the mount of the file system that the cache is on, instead of the kernel: what another one left is then all that
    /// had been synced.
    package var mountToken: String?

    package init() {}
}

/// A presented file's content together with where to fetch it.
package struct FileContent: Sendable {
    package var id: BlobID
    /// Bytes.
    package var size: UInt64
    package var source: any ByteSource
    /// Of the first byte, in the source.
    package var offset: UInt64
    /// What else lies in the source; nil where it holds nothing but this file.
    package var layout: (any SourceLayout)?

    package init(
        id: BlobID, size: UInt64, source: any ByteSource, offset: UInt64, layout: (any SourceLayout)? = nil
    ) {
        self.id = id
        self.size = size
        self.source = source
        self.offset = offset
        self.layout = layout
    }

    package var key: ContentKey { ContentKey(id, size: size) }
}

/// A snapshot of the cache's counters since start.
package struct CacheStatistics: Sendable {
    package var hits: UInt64 = 0
    package var misses: UInt64 = 0
    /// Reads that failed.
    package var errors: UInt64 = 0
    /// Range requests made, and the bytes they brought.
    package var originRequests: UInt64 = 0
    package var originBytes: UInt64 = 0
    /// Range requests that failed for good.
    package var originErrors: UInt64 = 0
    /// Contents whose digest was wrong.
    package var corruptions: UInt64 = 0
    /// Chunks served from memory because the disk or the bound was full.
    package var unkept: UInt64 = 0

    package init() {}
}

package struct CacheUsage: Sendable {
    package var bytesUsed: UInt64
    package var bytesPinned: UInt64
}
