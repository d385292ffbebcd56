import Synchronization
package import MCFSCore

/// A content that is open for reading. Made by `ChunkCache.open`; several readers may share one.
package final class CachedFile: Sendable {
    package let content: FileContent
    private let use: BlobUse
    private let cache: ChunkCache
    /// Rises with each time that bytes of the content turned out wrong that had been read: this is of when it was opened.
    package let generation: Int
    private let readAhead: Lock<ReadAhead>
    private let handedOut = Lock(StoredFile?.none)

    init(_ content: FileContent, _ use: BlobUse, _ cache: ChunkCache) {
        self.content = content
        self.use = use
        self.cache = cache
        generation = use.blob.generation
        // What is read ahead must not push itself out of the cache.
        readAhead = Lock(ReadAhead(windowMax: min(ReadAhead.windowMax, cache.configuration.bytesMax / 8)))
    }

    /// Whether bytes turned out wrong since it was opened: whoever read it must open it again.
    package var isStale: Bool { use.blob.generation != generation }

    /// Whether all bytes are local and checked.
    package var isComplete: Bool { use.blob.isComplete }

    /// The cache's file, byte for byte the content, where all of it is local and checked. An eviction unlinks it: who
    /// has it keeps it, and its space is booked as long as this lives.
    package var completeFile: OwnedDescriptor? {
        let file = use.blob.completeFile
        handedOut.withLock { handedOut in
            if let file { handedOut = file }
        }
        return file?.descriptor
    }

    /// Fetches what is missing of `range`, which must lie in the file, behind what readers wait for. Nobody hears of it.
    package func expect(_ range: ByteRange) {
        cache.readAhead(ReadAhead.Request(range: range, rangeBytes: FetchQueue.rangeBytesMax), of: use, content)
    }

    /// Says which bytes are read in one go: who reads the first of a run will read it to its end.
    ///
    /// - Parameter run: the run that holds an offset; nil where there is none. Called by readers, must be quick.
    package func expectRuns(_ run: @escaping @Sendable (UInt64) -> ByteRange?) {
        readAhead.withLock { $0.run = run }
    }

    /// Reads `range`, which must lie in the file and not be empty. Never blocks on the network.
    ///
    /// `makeWaiter` is called on a miss only, at most once. Its waiter is completed once, from another thread (or before this returns), at
    /// the latest at the cache's read deadline.
    /// - Throws: `corrupt` where bytes that were served turned out wrong: the file must be opened again.
    package func read(
        _ range: ByteRange, makeWaiter: () -> any ReadWaiter
    ) throws(MCFSError) -> ReadOutcome {
        precondition(!range.isEmpty && range.upperBound <= content.size, "a read beyond the end of the file")
        guard content.size <= OutsideNumber.bytesMax else {
            throw MCFSError(.corrupt, "\(content.id) has \(content.size) bytes, says its origin, which nothing has")
        }
        let ahead = readAhead.withLock { $0.advance(range, size: content.size) }
        let lookup: Blob.Lookup
        do {
            lookup = try use.blob.read(range, generation: generation, from: content.source) { missing in
                PendingRead(
                    range, missing: missing, waiter: makeWaiter(),
                    deadline: Deadline(after: cache.configuration.readDeadline), content: content, use: use)
            }
        } catch {
            cache.counters.withLock { $0.errors += 1 }
            throw error
        }
        switch consume lookup {
        case .region(let region):
            cache.hits.add(1, ordering: .relaxed)
            if let ahead { cache.readAhead(ahead, of: use, content) }
            return .region(region)
        case .refused(let read, let error):
            cache.fail([read], error)
            return .pending
        case .pending(let unclaimed, let fetched):
            cache.counters.withLock { $0.misses += 1 }
            cache.serve(unclaimed, fetched: fetched, of: use, content)
            if let ahead { cache.readAhead(ahead, of: use, content) }
            return .pending
        }
    }
}

extension ChunkCache {
    /// A content is used, whether or not it will be read here.
    package func noteUse(of id: BlobID, size: UInt64) {
        let key = ContentKey(id, size: size)
        guard space.touch(key) else { return }
        let use = table.use(key)
        if let file = use.blob.state.withLock({ $0.file }) { directory.touch(file.descriptor) }
    }

    /// Brings the chunks of a read that waits: from the memory of what could not be kept, else from the origin.
    fileprivate func serve(_ chunks: [Int], fetched: Set<Int>, of use: BlobUse, _ content: FileContent) {
        var missing: [Int] = []
        for chunk in chunks {
            if let buffer = overflow.find(content.key, chunk) {
                use.blob.deliverFromMemory(chunk, buffer, wasFetched: false)
            } else {
                missing.append(chunk)
            }
        }
        fetch(missing, fetched: fetched, of: use, content)
    }
}
