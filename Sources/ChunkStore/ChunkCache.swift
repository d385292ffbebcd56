package import MCFSCore

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
}

/// How one open file is being read: the read-ahead window belongs to it. Made by `ChunkCache.open`.
package final class CachedFile: Sendable {
    package let content: FileContent
    init(content: FileContent) { self.content = content }

    /// Reads `range`, which must lie in the file and not be empty. Never blocks on the network.
    ///
    /// `makeWaiter` is called on a miss only.
    package func read(_ range: ByteRange, makeWaiter: () -> any ReadWaiter) throws(MCFSError) -> ReadOutcome {
        preconditionFailure("not written yet")
    }
}

package struct CacheConfiguration: Sendable {
    /// Bytes; the unit of fetching.
    package var chunkSize: UInt64 = 1 << 20
    /// Hard bound for what the cache keeps, in bytes. Fetches in flight count.
    package var bytesMax: UInt64 = 50 << 30
    /// A read that cannot be answered in this time fails with EIO.
    package var readDeadline: Duration = .seconds(60)
    /// Threads that fetch: also the most range requests at once.
    package var fetchThreads: Int = 16
    /// Bound of the bytes that are being fetched and not yet on disk.
    package var inFlightBytesMax: UInt64 = 64 << 20
    package init() {}
}

/// The chunk cache of a cache directory: what was fetched once is served from local files ever after.
package final class ChunkCache: ContentSink {
    package struct Usage: Sendable {
        package var bytesUsed: UInt64 = 0
        package var bytesMax: UInt64 = 0
        package var bytesPinned: UInt64 = 0
        package init() {}
    }

    /// Counters since start.
    package struct Statistics: Sendable {
        package var hits: UInt64 = 0
        package var misses: UInt64 = 0
        package var errors: UInt64 = 0
        package var originRequests: UInt64 = 0
        package var originBytes: UInt64 = 0
        package var originRetries: UInt64 = 0
        package var originErrors: UInt64 = 0
        package init() {}
    }

    /// What `verify` found in one file.
    package struct Finding: Sendable {
        package var id: BlobID
        package var message: String
    }

    package init(directory: String, configuration: CacheConfiguration = CacheConfiguration()) throws(MCFSError) {}

    package func open(_ content: FileContent) throws(MCFSError) -> CachedFile { preconditionFailure("not written yet") }
    /// Bytes of it that are local. Cheap enough for `ls -lR`.
    package func localBytes(of id: BlobID, size: UInt64) -> UInt64 { 0 }
    package var usage: Usage { Usage() }
    package var statistics: Statistics { Statistics() }

    /// Makes `contents` local, nearest-in-source first, and blocks until that is done, failed or cancelled. `progress` gets bytes.
    /// - Throws: the first error that retries did not mend, after the rest was tried.
    package func prefetch(_ contents: [FileContent], progress: any ProgressReporter, isCancelled: @escaping @Sendable () -> Bool) throws(MCFSError) {}

    /// Replaces the set of what may not be evicted.
    package func setPinned(_ ids: Set<BlobID>) {}
    /// Drops what is local of `ids` (pinned or not). - Returns: bytes freed.
    package func evict(_ ids: [BlobID]) throws(MCFSError) -> UInt64 { 0 }
    /// Drops least recently used files, never pinned ones, until at most `bytes` are used. - Returns: bytes freed.
    package func collect(downTo bytes: UInt64) throws(MCFSError) -> UInt64 { 0 }
    /// Reads what is complete and compares it with its digest. What does not match is dropped; it is fetched again on its next read.
    package func verify(progress: any ProgressReporter) throws(MCFSError) -> [Finding] { [] }

    package func beginContent(id: BlobID?, size: UInt64) throws(MCFSError) -> any ContentWriter { throw MCFSError(.unsupported, "not written yet") }
    /// Flushes and closes. Reads that wait fail with `cancelled`.
    package func shutDown() {}
}
