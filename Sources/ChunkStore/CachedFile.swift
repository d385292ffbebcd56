import Synchronization
package import MCFSCore

/// A content that is open for reading. Made by `ChunkCache.open`; several readers may share one.
package final class CachedFile: Sendable {
    package let content: FileContent
    private let use: BlobUse
    private let cache: ChunkCache
    /// Of the bytes when this was opened.
    private let generation: Int
    private let readAhead: Mutex<ReadAhead>

    init(_ content: FileContent, _ use: BlobUse, _ cache: ChunkCache) {
        self.content = content
        self.use = use
        self.cache = cache
        generation = use.blob.generation
        // What is read ahead must not push itself out of the cache.
        readAhead = Mutex(ReadAhead(windowMax: min(ReadAhead.windowMax, cache.configuration.bytesMax / 8)))
    }

    /// Whether all bytes are local and checked.
    package var isComplete: Bool { use.blob.isComplete }

    /// The cache's file, byte for byte the content, where all of it is local and checked. An eviction unlinks it: who
    /// has it keeps it.
    package var completeFile: OwnedDescriptor? { use.blob.completeFile }

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
        let ahead = readAhead.withLock { $0.advance(range, size: content.size) }
        let lookup: Blob.Lookup
        do {
            lookup = try use.blob.read(range, generation: generation) { missing in
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
            cache.counters.withLock { $0.hits += 1 }
            if let ahead { cache.readAhead(ahead, of: use, content) }
            return .region(region)
        case .pending(let unclaimed, let isFetching):
            cache.counters.withLock { $0.misses += 1 }
            cache.serve(unclaimed, of: use, content, isFetching: isFetching)
            if let ahead { cache.readAhead(ahead, of: use, content) }
            return .pending
        }
    }
}

extension ChunkCache {
    /// Brings the chunks of a read that waits: from the memory of what could not be kept, else from the origin.
    fileprivate func serve(_ chunks: [Int], of use: BlobUse, _ content: FileContent, isFetching: Bool) {
        var missing: [Int] = []
        for chunk in chunks {
            if let buffer = overflow.find(use.blob.id, chunk) {
                use.blob.answer(use.blob.deliverFromMemory(chunk, UnsafeRawBufferPointer(buffer.bytes)))
            } else {
                missing.append(chunk)
            }
        }
        fetch(missing, of: use, content, isFetching: isFetching)
    }
}
