internal import Glibc
import Synchronization
package import Logging
package import MCFSCore

/// The chunk cache of a cache directory: what was fetched once is served from local files ever after.
///
/// A miss goes `CachedFile.read` → `FetchPlanner` (claims chunks, makes jobs) → `FetchQueue` (a thread; memory and room on disk
/// are reserved) → the source → `FillSink` (cuts pieces) → `WorkQueue` → `Blob` (its writer: writes, marks) → the waiters. One
/// chunk is fetched once, however many wait for it.
///
/// Thread safe. One per cache directory and machine: the daemon's lock sees to that.
package final class ChunkCache: ContentSink {
    package let configuration: CacheConfiguration
    let directory: CacheDirectory
    let space: Space
    let table: BlobTable
    let planner: FetchPlanner
    let logger: Logger
    let evictor: Evictor
    let counters = Lock(CacheStatistics())
    let hits = Atomic<UInt64>(0)
    let overflow = Overflow()
    private let context: BlobContext
    private let writers: WorkQueue
    private let memory: MemoryBudget
    private let pool: BufferPool
    private let waiting = Guarded(Waiting())
    private let lanes: FetchLanes
    private let flusher: Flusher
    private let recentErrors = Lock<[(message: String, at: ContinuousClock.Instant)]>([])
    private let temporaryNumber = Atomic<UInt64>(0)
    private let discardObservers = Lock<[@Sendable (BlobID) -> Void]>([])

    /// Most bytes of buffers that are kept for their next use.
    private static let pooledBytesMax = 24 << 20
    /// Of a source that is read from its first byte to its last: bytes that may be on their way to the disk.
    private static let streamBytes: UInt64 = 8 << 20
    /// A stream takes as long as it takes; the transport ends one that stalls.
    private static let streamDeadline = Duration.seconds(24 * 3600)
    /// The same error within this time is no news.
    private static let repetitionMax = Duration.seconds(10)
    /// How long a reader waits for room on the disk before it gets its bytes from memory.
    private static let roomPatience = Duration.milliseconds(500)

    /// - Throws: `localIO` where the directory cannot be used.
    package init(
        directory path: String, configuration: CacheConfiguration = CacheConfiguration(),
        logger: Logger = Logger(label: "mcfs.cache")
    ) throws(MCFSError) {
        self.configuration = configuration
        self.logger = logger
        let directory = try CacheDirectory(path, token: configuration.mountToken.map { MountToken(text: $0) })
        self.directory = directory
        space = Space(bytesMax: configuration.bytesMax)
        let dirty = DirtyContents()
        let start = CacheStart(directory, space, dirty)
        do throws(Errno) {
            writers = try WorkQueue("mcfs-store", threads: configuration.storeThreads)
            context = BlobContext(
                directory, space, dirty, hashing: try WorkQueue("mcfs-hash", threads: configuration.storeThreads),
                unproven: start.unproven)
        } catch { throw MCFSError(noThread: error) }
        table = BlobTable(context, chunkSize: configuration.chunkSize)
        planner = FetchPlanner(smallContentMax: configuration.chunkSize, table: table, space: space)
        evictor = Evictor(space: space, table: table)
        memory = MemoryBudget(bytes: configuration.inFlightBytesMax)
        pool = BufferPool(bufferBytes: Int(configuration.chunkSize), bytesMax: Self.pooledBytesMax)
        flusher = Flusher(context, table)
        let link = Link()
        // The threads get at the cache through a reference that ends with it.
        lanes = FetchLanes(threads: configuration.fetchThreads) { job in link.cache?.run(job) }
        link.set(self)
        context.set(observer: self, table: table)
        do throws(Errno) {
            try startThread("mcfs-scan") { [table] in
                start.scan { key in
                    let use = table.use(key)
                    withExtendedLifetime(use) { use.blob.clearPartial() }
                }
            }
            try startThread("mcfs-evict") { [evictor] in evictor.run() }
            try startThread("mcfs-deadline") { [waiting] in Self.expireReads(waiting) }
            try flusher.start(every: configuration.syncInterval)
        } catch { throw MCFSError(noThread: error) }
    }

    /// Breaks the circle between the cache and its threads.
    private final class Link: Sendable {
        private struct Weak: Sendable { weak var cache: ChunkCache? }
        private let weakCache = Lock(Weak())
        var cache: ChunkCache? { weakCache.withLock { $0.cache } }
        func set(_ cache: ChunkCache) { weakCache.withLock { $0.cache = cache } }
    }

    /// Calls `observer` with contents whose bytes turned out wrong after some were served: whoever cached them must drop them.
    package func onDiscard(_ observer: @escaping @Sendable (BlobID) -> Void) {
        discardObservers.withLock { $0.append(observer) }
    }

    package var statistics: CacheStatistics {
        var result = counters.withLock { $0 }
        result.hits = hits.load(ordering: .relaxed)
        return result
    }

    /// Of what is known so far, while the cache is being scanned after its start.
    package var usage: CacheUsage {
        CacheUsage(bytesUsed: space.used, bytesPinned: space.pinnedBytes)
    }

    /// Whether all that earlier starts left is known. Before, what is local is looked up on the disk.
    package var isScanned: Bool { space.isScanned }

    /// - Returns: whether all is known by then.
    @discardableResult
    package func waitUntilScanned(_ deadline: Deadline) -> Bool { space.waitUntilScanned(deadline) }

    /// What went wrong lately, newest last: one sentence each, at most 16, none older than ten minutes.
    package var problems: [String] {
        let limit = ContinuousClock.now - .seconds(600)
        return recentErrors.withLock { $0.filter { $0.at > limit }.map(\.message) }
    }

    /// - Returns: whether it is news: the same was not noted just before.
    @discardableResult
    func note(_ error: MCFSError) -> Bool {
        recentErrors.withLock { errors in
            let now = ContinuousClock.now
            let last = errors.firstIndex { $0.message == error.message }.map { errors.remove(at: $0).at }
            errors.append((error.message, now))
            if errors.count > 16 { errors.removeFirst() }
            return last.map { now - $0 > Self.repetitionMax } ?? true
        }
    }

    /// Bytes of a content that are local. Cheap enough for `ls -lR`, once the cache is scanned.
    package func localBytes(of id: BlobID, size: UInt64) -> UInt64 {
        if size == 0 { return 0 }
        let key = ContentKey(id, size: size)
        if context.isUnproven(id) {
            let use = table.use(key)
            withExtendedLifetime(use) { use.blob.waitForVerdict(Deadline(after: configuration.readDeadline)) }
        }
        return space.localBytes(key) ?? table.use(key).blob.localBytes
    }

    /// Whether pages that somebody keeps of a content may have bytes that are wrong, or that nobody checked and nobody will: they were
    /// given out while it was on its way, and it has been fetched anew since.
    package func hasUncertainPages(of id: BlobID, size: UInt64) -> Bool {
        context.hasLostUnchecked(ContentKey(id, size: size))
    }

    /// Opens a content for reading. The read-ahead window belongs to what is returned.
    package func open(_ content: FileContent) -> CachedFile {
        let use = table.use(content.key)
        if space.touch(content.key), let file = use.blob.state.withLock({ $0.file }) {
            directory.touch(file.descriptor)
        }
        return CachedFile(content, use, self)
    }

    func nextTemporaryName() -> String { "tmp/\(temporaryNumber.add(1, ordering: .relaxed).newValue)" }

    /// Replaces the set of what may not be evicted.
    package func setPinned(_ contents: Set<ContentKey>) { space.setPinned(contents) }

    /// Drops what is local of `contents`, pinned or not. Whoever has one open keeps reading it. - Returns: bytes freed.
    package func evict(_ contents: [ContentKey]) -> UInt64 {
        contents.reduce(0) { sum, key in
            overflow.remove(key)
            // Before the scan how much that is must be looked up.
            let use = table.use(key, isLost: space.localBytes(key) != nil)
            return sum + withExtendedLifetime(use) { use.blob.evict() }
        }
    }

    /// Drops least recently used contents, never pinned or open complete ones, until at most `bytes` are used.
    /// - Returns: bytes freed.
    package func collect(downTo bytes: UInt64) -> UInt64 {
        space.waitUntilScanned()
        return evictor.evict(downTo: bytes)
    }

    /// Blocks until what was written so far is synced.
    package func waitUntilSynced() { context.dirty.waitUntilFlushed() }

    /// Flushes and ends the threads. Reads that wait fail with `cancelled`.
    package func shutDown() {
        let cancelled = MCFSError(.cancelled, "the cache is being closed")
        let now = Deadline(after: .zero)
        for job in lanes.end() { giveUp(job.pieces, cancelled, deadline: now) }
        let blobs = waiting.update { waiting in
            waiting.hasEnded = true
            return waiting.entries.values.compactMap(\.blob)
        }
        for blob in blobs { fail(blob.takeAllReads(), cancelled) }
        space.end()
        writers.end()
        // What is not hashed yet is later: its state is kept.
        context.hashing.end(dropsWaiting: true)
        flusher.end()
    }
}

// MARK: - Misses

extension ChunkCache {
    /// Fetches what a waiting read lacks.
    func fetch(_ chunks: [Int], fetched: Set<Int>, of use: BlobUse, _ content: FileContent) {
        waiting.update { $0.add(use.blob) }
        if !fetched.isEmpty { lanes.promote(use.blob, fetched) }
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
        for job in jobs where !lanes.add(job) {
            let error = MCFSError(.failed, "the system gives no thread to fetch with", isTransient: true)
            giveUp(job.pieces, error, deadline: Deadline(after: .seconds(3600)))
            job.group?.ended(error, of: job.source)
        }
    }

    /// Makes one range request. On a thread of the queue.
    private func run(_ job: FetchJob) {
        if job.isAbandoned {
            let error = MCFSError(.cancelled, "the prefetch was given up", isTransient: true)
            // Who came to wait for it meanwhile gets it.
            giveUp(job.pieces, error, deadline: Deadline(after: .zero))
            job.group?.ended(error, of: job.source)
            return
        }
        let isStream = !job.source.hasRandomAccess
        let deadline = Deadline(after: isStream ? Self.streamDeadline : configuration.readDeadline)
        // All that what comes will need, before it is asked for.
        let bytes = job.pieces.reduce(0) { $0 + $1.range.count }
        let memory = memory.reserve(
            isStream ? min(bytes, Self.streamBytes) : bytes, for: job.source.origin, until: deadline)
        guard let memory else {
            let error = MCFSError(.timedOut, "too much is on its way to the disk", isTransient: true)
            giveUp(job.pieces, error, deadline: deadline)
            job.group?.ended(error, of: job.source)
            return
        }
        let isAwaited = job.priority == .demand && !isStream
        let room = space.reserve(
            job.diskBytes, until: Deadline(after: isAwaited ? Self.roomPatience : configuration.readDeadline))
        counters.withLock { $0.originRequests += 1 }
        // The request itself, and each piece on its way to the disk.
        let open = Guarded((count: 1, error: MCFSError?.none))
        let close: @Sendable (MCFSError?) -> Void = { error in
            let (isLast, error) = open.withLock { open in
                open.count -= 1
                open.error = open.error ?? error
                return (open.count == 0, open.error)
            }
            if isLast { job.group?.ended(error, of: job.source) }
        }
        let sink = FillSink(job, pool: pool, bytesMax: isStream ? Self.streamBytes : nil) {
            [self] sink, piece, buffer in
            open.withLock { $0.count += 1 }
            writers.add { [self] in
                store(piece, buffer, from: job.source, room) { error in
                    if !isStream { memory.release(piece.range.count) }
                    sink.stored(piece)
                    close(error)
                }
            }
        }
        var failure: MCFSError?
        let began = ContinuousClock.now
        job.group?.began(job.source)
        do {
            try job.source.read(job.range, deadline: deadline, into: sink)
            if !sink.missing.isEmpty {
                failure = MCFSError(
                    .originUnavailable, "\(job.source.name) sent fewer bytes than it was asked for", isTransient: true)
            }
        } catch {
            // The file is there, its bytes are not any more: no reader may take that for a missing file.
            failure = error.code == .notFound ? MCFSError(.changed, error.message, cause: error) : error
        }
        job.group?.finishedReading(job.source)
        job.received = sink.received
        job.duration = ContinuousClock.now - began
        counters.withLock { counters in
            counters.originBytes += sink.received
            if failure != nil { counters.originErrors += 1 }
        }
        if let failure {
            if failure.code != .cancelled, note(failure) {
                logger.warning(
                    "a fetch failed",
                    metadata: ["source": "\(job.source.name)", "range": "\(job.range)", "error": "\(failure)"])
            }
            // Who came to wait for what a prefetch was about to bring gets it all the same.
            giveUp(sink.missing, failure, deadline: job.isAbandoned ? Deadline(after: .zero) : deadline)
        }
        close(failure)
    }

    /// Answers those who wait for pieces that did not come, or asks for them again.
    private func giveUp(_ pieces: [FetchPiece], _ error: MCFSError, deadline: Deadline) {
        for piece in pieces {
            let (failed, isWanted) = piece.use.blob.release(piece.chunk, error, deadline: deadline)
            fail(failed, error)
            if isWanted { fetchWanted(piece.use) }
        }
    }

    func fail(_ reads: [PendingRead], _ error: MCFSError) {
        guard !reads.isEmpty else { return }
        counters.withLock { $0.errors += UInt64(reads.count) }
        for read in reads { read.waiter.complete(.failure(error)) }
    }

    /// Keeps a piece that came, or gives it to those who wait. On a thread of `writers`; `then` is called at its end, maybe on
    /// another, with the reason why it could not be kept.
    private func store(
        _ piece: FetchPiece, _ buffer: MemoryBuffer, from source: any ByteSource, _ room: Reservation?,
        then: @escaping @Sendable (MCFSError?) -> Void
    ) {
        let blob = piece.use.blob
        let diskBytes = piece.diskBytes
        blob.write { [self] in
            // Where there was no room for all of the job there may be some for this.
            let room = room ?? space.reserve(diskBytes, until: Deadline(after: .zero))
            let error = blob.store(piece.chunk, buffer, from: source, room)
            if error != nil {
                counters.withLock { $0.unkept += 1 }
                overflow.add(blob.key, piece.chunk, buffer)
                blob.deliverFromMemory(piece.chunk, buffer, wasFetched: true)
                room?.release(diskBytes)
            }
            then(error)
        }
    }

    /// Fetches again what waiting reads lack and nobody fetches.
    private func fetchWanted(_ use: BlobUse) {
        guard let (chunks, content) = use.blob.wanted() else { return }
        schedule(planner.jobs(for: chunks, of: use, content, priority: .demand))
    }

    /// Fails reads whose deadline has passed. Runs until the cache is closed; sleeps while nobody waits.
    private static func expireReads(_ waiting: Guarded<Waiting>) {
        let error = MCFSError(.timedOut, "no bytes came within the deadline", isTransient: true)
        while true {
            let entries = waiting.wait { $0.entries.isEmpty && !$0.hasEnded ? nil : $0.entries } ?? [:]
            if waiting.withLock({ $0.hasEnded }) { return }
            for blob in entries.values.compactMap(\.blob) {
                for read in blob.takeExpired(error) { read.waiter.complete(.failure(error)) }
            }
            // A read is registered after it joined its blob: what was registered anew meanwhile stays.
            let idle = entries.filter { !($0.value.blob?.isAwaited ?? false) }
            waiting.withLock { waiting in
                for (key, entry) in idle where waiting.entries[key]?.number == entry.number {
                    waiting.entries[key] = nil
                }
            }
            _ = waiting.wait(until: Deadline(after: .milliseconds(100))) { $0.hasEnded ? true : nil }
        }
    }
}

extension ChunkCache: BlobObserver {
    func wantsChunks(_ key: ContentKey) {
        if let use = table.useIfActive(key) { fetchWanted(use) }
    }

    func foundCorrupt(_ key: ContentKey, _ error: MCFSError?, _ reads: [PendingRead], wasServed: Bool) {
        counters.withLock { $0.corruptions += 1 }
        // What could not be kept came with it.
        overflow.remove(key)
        guard let error else {
            return logger.warning(
                "fetched bytes have a wrong digest; fetching them again", metadata: ["content": "\(key.id)"])
        }
        logger.error("a content is not what it should be", metadata: ["reason": "\(error)"])
        note(error)
        fail(reads, error)
        guard wasServed else { return }
        // On a thread of its own: the kernel waits for reads in flight before it drops pages.
        let observers = discardObservers.withLock { $0 }
        do throws(Errno) { try startThread("mcfs-discard") { for observer in observers { observer(key.id) } } } catch {
            logger.error(
                "pages of wrong bytes may stay in memory: no thread to drop them", metadata: ["errno": "\(error)"])
        }
    }

    func couldNotKeep(_ key: ContentKey, _ error: MCFSError) { note(error) }
}

/// The contents that reads wait for. Holds them weakly: a read keeps its content itself.
private struct Waiting {
    struct Entry {
        weak var blob: Blob?
        let number: UInt64
    }

    private(set) var number: UInt64 = 0
    var entries: [ContentKey: Entry] = [:]
    var hasEnded = false

    mutating func add(_ blob: Blob) {
        number += 1
        entries[blob.key] = Entry(blob: blob, number: number)
    }
}
