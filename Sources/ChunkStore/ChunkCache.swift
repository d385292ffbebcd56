internal import Glibc
import Synchronization
package import Logging
package import MCFSCore

/// The chunk cache of a cache directory: what was fetched once is served from local files ever after.
///
/// A miss goes `CachedFile.read` → `FetchPlanner` (claims chunks, makes jobs) → `FetchQueue` (a thread) → the source → `FillSink` (cuts
/// pieces) → `WorkQueue` (writes, marks, hashes) → the waiters. One chunk is fetched once, however many wait for it.
///
/// Thread safe. One per cache directory and machine: the daemon's lock sees to that.
package final class ChunkCache: ContentSink {
    package let configuration: CacheConfiguration
    let directory: CacheDirectory
    let index = LocalIndex()
    let table: BlobTable
    let planner: FetchPlanner
    let logger: Logger
    /// Each has one thread, and a content has always the same one: two threads that write to one file wait for each other in the kernel.
    private let writers: [WorkQueue]
    private let budget: InFlightBudget
    private let pool: BufferPool
    private let waiting = Guarded(Waiting())
    private let queue: FetchQueue
    /// Most bytes of buffers that are kept for their next use.
    private static let pooledBytesMax = 24 << 20
    let counters = Mutex(CacheStatistics())
    private let recentErrors = Mutex<[(message: String, at: ContinuousClock.Instant)]>([])
    let overflow = Overflow()
    private let flusher: Flusher
    private let temporaryNumber = Atomic<UInt64>(0)
    private let discardObservers = Mutex<[@Sendable (BlobID) -> Void]>([])

    /// - Throws: `localIO` where the directory cannot be used.
    package init(
        directory path: String, configuration: CacheConfiguration = CacheConfiguration(),
        logger: Logger = Logger(label: "mcfs.cache")
    ) throws(MCFSError) {
        self.configuration = configuration
        self.logger = logger
        directory = try CacheDirectory(path)
        let syncPoint = SyncPoint(directory)
        let link = Link()
        table = BlobTable(
            directory: directory, index: index, chunkSize: configuration.chunkSize
        ) { use in link.cache?.finishLater(use) }
        planner = FetchPlanner(smallContentMax: configuration.chunkSize, table: table, index: index)
        writers = (0..<max(1, configuration.storeThreads)).map { _ in WorkQueue("mcfs-store", threads: 1) }
        budget = InFlightBudget(bytes: configuration.inFlightBytesMax)
        pool = BufferPool(bufferBytes: Int(configuration.chunkSize), bytesMax: Self.pooledBytesMax)
        flusher = Flusher(directory, table, syncPoint)
        // The threads get at the cache through a reference that ends with it.
        queue = FetchQueue(threads: configuration.fetchThreads) { job in link.cache?.run(job) }
        link.set(self)
        // Before anything new is written there.
        directory.forEachFile(in: "tmp") { [directory] name, _ in directory.remove("tmp/\(name)") }
        if syncPoint.trustedUntil == nil {
            startThread("mcfs-scan") { [index, directory] in index.scan(directory, syncPoint) }
        } else {
            // What another boot left must be judged before this boot signs for the cache.
            index.scan(directory, syncPoint)
            do { try syncPoint.write(syncedUntil: 0, in: directory) } catch {
                throw MCFSError(localIO: "write to the cache directory \(path)", error)
            }
        }
        startThread("mcfs-deadline") { [waiting] in Self.expireReads(waiting) }
        flusher.start(every: configuration.syncInterval)
    }

    /// Breaks the circle between the cache and its threads.
    private final class Link: Sendable {
        private struct Weak: Sendable { weak var cache: ChunkCache? }
        private let weakCache = Mutex(Weak())
        var cache: ChunkCache? { weakCache.withLock { $0.cache } }
        func set(_ cache: ChunkCache) { weakCache.withLock { $0.cache = cache } }
    }

    /// Calls `observer` with contents whose bytes turned out wrong after some were served: whoever cached them must drop them.
    package func onDiscard(_ observer: @escaping @Sendable (BlobID) -> Void) {
        discardObservers.withLock { $0.append(observer) }
    }

    package var statistics: CacheStatistics { counters.withLock { $0 } }

    package var usage: CacheUsage {
        CacheUsage(bytesUsed: index.used, bytesMax: configuration.bytesMax, bytesPinned: index.pinnedBytes)
    }

    /// What went wrong lately, newest last: one sentence each, at most 16, none older than ten minutes.
    package var problems: [String] {
        let limit = ContinuousClock.now - .seconds(600)
        return recentErrors.withLock { $0.filter { $0.at > limit }.map(\.message) }
    }

    func note(_ error: MCFSError) {
        recentErrors.withLock { errors in
            errors.removeAll { $0.message == error.message }
            errors.append((error.message, ContinuousClock.now))
            if errors.count > 16 { errors.removeFirst() }
        }
    }

    /// A file of the file system that the cache's files are on.
    package var sampleFile: OwnedDescriptor? { try? directory.openIfThere(SyncPoint.name, O_RDONLY) }

    /// Bytes of a content that are local. Cheap enough for `ls -lR`.
    package func localBytes(of id: BlobID, size: UInt64) -> UInt64 { size == 0 ? 0 : min(size, index.localBytes(id)) }

    /// Opens a content for reading. The read-ahead window belongs to what is returned.
    package func open(_ content: FileContent) -> CachedFile {
        let use = table.use(content.id, size: content.size)
        if index.touch(content.id), let file = use.blob.state.withLock({ $0.file }) {
            directory.touch(file)
        }
        return CachedFile(content, use, self)
    }

    /// Whether it is known what is local: it is found out after the start, by looking at every file.
    package var isScanned: Bool { index.isScanned }

    func nextTemporaryNumber() -> UInt64 { temporaryNumber.add(1, ordering: .relaxed).newValue }

    func noteWrite() { flusher.noteWrite() }

    /// Flushes and ends the threads. Reads that wait fail with `cancelled`.
    package func shutDown() {
        let cancelled = MCFSError(.cancelled, "the cache is being closed")
        for job in queue.end() { giveUp(job.pieces, job, cancelled) }
        let blobs = waiting.update { waiting in
            waiting.hasEnded = true
            return waiting.all
        }
        for blob in blobs { fail(blob.takeAllReads(), cancelled) }
        for writer in writers { writer.end() }
        flusher.end()
    }
}

// MARK: - Misses

extension ChunkCache {
    /// Fetches what a waiting read lacks.
    func fetch(_ chunks: [Int], of use: BlobUse, _ content: FileContent, isFetching: Bool) {
        waiting.update { $0.blobs[use.blob.id] = Waiting.Entry(blob: use.blob) }
        if isFetching { queue.promote(use.blob, Set(use.blob.grid.chunks(overlapping: ByteRange(0, content.size)))) }
        schedule(planner.jobs(for: chunks, of: use, content, priority: .demand))
    }

    /// Fetches what a sequential reader will want.
    func readAhead(_ request: ReadAhead.Request, of use: BlobUse, _ content: FileContent) {
        guard content.source.hasRandomAccess else { return }
        let chunks = Array(use.blob.grid.chunks(overlapping: request.range))
        schedule(
            planner.jobs(
                for: chunks, of: use, content, priority: .readAhead, rangeBytesMax: request.rangeBytes))
    }

    func schedule(_ jobs: [FetchJob]) {
        for job in jobs { queue.add(job) }
    }

    /// Makes one range request. On a thread of the queue.
    private func run(_ job: FetchJob) {
        counters.withLock { $0.originRequests += 1 }
        // The request itself, and each piece on its way to the disk.
        let open = Guarded((count: 1, error: MCFSError?.none))
        let close: @Sendable (MCFSError?) -> Void = { error in
            let (isLast, error) = open.withLock { open in
                open.count -= 1
                open.error = open.error ?? error
                return (open.count == 0, open.error)
            }
            if isLast { job.ended?(error) }
        }
        let sink = FillSink(job, budget: budget, pool: pool) { [self] piece, buffer in
            open.withLock { $0.count += 1 }
            writer(of: piece.use.blob.id).add { [self] in
                store(piece, buffer)
                budget.release(UInt64(buffer.count))
                close(nil)
            }
        }
        var failure: MCFSError?
        do {
            // A stream takes as long as it takes; the transport ends one that stalls.
            let deadline = job.source.hasRandomAccess ? configuration.readDeadline : .seconds(24 * 3600)
            try job.source.read(job.range, deadline: Deadline(after: deadline), into: sink)
            if !sink.missing.isEmpty {
                failure = MCFSError(
                    .originUnavailable, "\(job.source.name) sent fewer bytes than it was asked for", isTransient: true)
            }
        } catch {
            // The file is there, its bytes are not any more: no reader may take that for a missing file.
            failure = error.code == .notFound ? MCFSError(.changed, error.message, cause: error) : error
        }
        counters.withLock { counters in
            counters.originBytes += sink.received
            if failure != nil { counters.originErrors += 1 }
        }
        if let failure {
            logger.warning(
                "a fetch failed",
                metadata: ["source": "\(job.source.name)", "range": "\(job.range)", "error": "\(failure)"])
            note(failure)
            giveUp(sink.missing, job, failure)
        }
        close(failure)
    }

    /// Answers those who wait for pieces that did not come, or asks for them again.
    private func giveUp(_ pieces: [FetchPiece], _ job: FetchJob, _ error: MCFSError) {
        for piece in pieces {
            let (failed, isWanted) = piece.use.blob.release(piece.chunk, error)
            fail(failed, error)
            if isWanted { refetch(piece, job.source) }
        }
    }

    private func refetch(_ piece: FetchPiece, _ source: any ByteSource) {
        guard !piece.use.blob.claim(piece.chunk..<piece.chunk + 1).isEmpty else { return }
        queue.add(FetchJob(source, [piece], priority: .demand))
    }

    func fail(_ reads: [PendingRead], _ error: MCFSError) {
        guard !reads.isEmpty else { return }
        counters.withLock { $0.errors += UInt64(reads.count) }
        for read in reads { read.waiter.complete(.failure(error)) }
    }

    /// Writes a piece that came. On a thread of `writers`.
    private func store(_ piece: FetchPiece, _ buffer: MemoryBuffer) {
        let blob = piece.use.blob
        let bytes = UnsafeRawBufferPointer(buffer.bytes)
        guard reserve(blob.id, UInt64(buffer.count)) else { return deliver(piece, buffer) }
        do throws(Errno) {
            switch try blob.store(piece.chunk, bytes) {
            case .kept(let ready): blob.answer(ready, holding: (piece.chunk, buffer))
            case .superseded(let ready):
                index.unreserve(blob.id, UInt64(buffer.count))
                blob.answer(ready)
            }
            flusher.noteWrite()
        } catch {
            index.unreserve(blob.id, UInt64(buffer.count))
            note(MCFSError(localIO: "write to the cache directory \(directory.path)", error))
            return deliver(piece, buffer)
        }
        finish(piece.use)
    }

    /// Serves a piece that the cache cannot keep.
    private func deliver(_ piece: FetchPiece, _ buffer: MemoryBuffer) {
        counters.withLock { $0.unkept += 1 }
        overflow.add(piece.use.blob.id, piece.chunk, buffer)
        piece.use.blob.answer(piece.use.blob.deliverFromMemory(piece.chunk, UnsafeRawBufferPointer(buffer.bytes)))
    }

    private func writer(of id: BlobID) -> WorkQueue {
        writers[Int(UInt(bitPattern: id.hashValue) % UInt(writers.count))]
    }

    private func finishLater(_ use: BlobUse) { writer(of: use.blob.id).add { [self] in finish(use) } }

    /// Goes on towards a complete file.
    func finish(_ use: BlobUse) {
        let blob = use.blob
        switch blob.finishIfFull() {
        case .notYet: break
        case .complete(let reads): blob.answer(reads)
        case .refetch:
            _ = index.remove(blob.id)
            counters.withLock { $0.corruptions += 1 }
            logger.warning(
                "fetched bytes have a wrong digest; fetching them again", metadata: ["content": "\(blob.id)"])
            fetchWanted(use)
        case .wrong(let reads, let error):
            _ = index.remove(blob.id)
            counters.withLock { $0.corruptions += 1 }
            logger.error("fetched bytes have a wrong digest", metadata: ["content": "\(blob.id)"])
            note(error)
            fail(reads, error)
            // On a thread of its own: the kernel waits for reads in flight before it drops pages.
            let observers = discardObservers.withLock { $0 }
            startThread("mcfs-discard") { for observer in observers { observer(blob.id) } }
        }
    }

    /// Fetches again what waiting reads lack and nobody fetches: after an eviction or a wrong digest.
    func fetchWanted(_ use: BlobUse) {
        guard let (chunks, content) = use.blob.wanted() else { return }
        schedule(planner.jobs(for: chunks, of: use, content, priority: .demand))
    }

    /// Fails reads whose deadline has passed. Runs until the cache is closed; sleeps while nobody waits.
    private static func expireReads(_ waiting: Guarded<Waiting>) {
        while true {
            let blobs = waiting.wait { $0.blobs.isEmpty && !$0.hasEnded ? nil : $0.all } ?? []
            if waiting.withLock({ $0.hasEnded }) { return }
            for blob in blobs {
                for read in blob.takeExpired() {
                    read.waiter.complete(
                        .failure(MCFSError(.timedOut, "no bytes came within the deadline", isTransient: true)))
                }
            }
            // Asked under the lock: a read is registered after it joined its blob.
            waiting.withLock { waiting in
                for (id, entry) in waiting.blobs where !(entry.blob?.isAwaited ?? false) { waiting.blobs[id] = nil }
            }
            _ = waiting.wait(until: Deadline(after: .milliseconds(100))) { $0.hasEnded ? true : nil }
        }
    }
}

/// The blobs that reads wait for. Holds them weakly: a read keeps its blob itself.
private struct Waiting {
    struct Entry {
        weak var blob: Blob?
    }

    var blobs: [BlobID: Entry] = [:]
    var hasEnded = false

    var all: [Blob] { blobs.values.compactMap(\.blob) }
}
