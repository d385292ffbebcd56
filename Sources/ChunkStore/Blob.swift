import Glibc
import Synchronization
import MCFSCore

/// One content: what of it is local, which chunks are being fetched, who waits.
///
/// All that changes its files runs as its *writer* (`write`), one piece of work after the other: storing, judging, evicting,
/// adopting, noting what was synced. `state` is what readers look at, under one lock that is held for a few lines and never
/// across a system call; nobody but the writer changes `file`, `map`, `present` and `isComplete`.
///
/// A content is *complete* once all of it is there and its digest fits, or there is none. Until then reads are answered as
/// their chunks come, but not the one by which all of the file would be out: that waits for the digest. A content of one chunk
/// is checked before it is written. One that is evicted, or whose digest is wrong, begins anew with another file: the old one
/// is unlinked, and who has it open keeps reading it.
///
/// Crash: a chunk's bit is recorded after its bytes are written and before anybody is told, so a bit that is found again is
/// true and a read that was answered is found again.
final class Blob: Sendable {
    struct State {
        var file: StoredFile?
        /// Of a file that is not whole, or not yet synced.
        var map: MapFile?
        /// Another mount wrote the map: it must be taken over before anything is recorded.
        var mapIsForeign = false
        var present: Bitmap
        var isComplete = false
        /// A file that must be hashed before anything is read.
        var doubt: Doubt?
        /// What is local could not be looked at: what comes is given out from memory, and the files stay as they are.
        var isUnreadable = false
        /// Chunks that a fetch has been asked for.
        var claimed: Bitmap
        /// Chunks that were given out before the digest was known.
        var served: Bitmap
        var reads: [PendingRead] = []
        /// Chunks that are in memory still and will be hashed.
        var unhashed: [Int: MemoryBuffer] = [:]
        /// Whether a thread hashes it, or will.
        var isHashing = false

        /// Raised when served bytes turned out wrong: files opened before must fail.
        var generation = 0
        /// How often the digest was wrong since it last was right.
        var mismatches = 0
        /// Where what is there came from, as far as that is known.
        var sources: Set<ObjectIdentifier> = []
        /// What reads get for a while.
        var failure: Failure?
        /// Chunks that did not come in time.
        var refused: [Int: Refusal] = [:]

        /// Work of the writer; empty while nobody writes.
        var work: [@Sendable () -> Void] = []
        var hasWriter = false
    }

    /// A content that stays wrong is not fetched over and over.
    struct Failure {
        let error: MCFSError
        /// Who brought it; empty: anybody. One that is right may have another source.
        let sources: Set<ObjectIdentifier>
        private let until = ContinuousClock.now + .seconds(30)

        var hasPassed: Bool { until <= ContinuousClock.now }

        func concerns(_ source: any ByteSource) -> Bool {
            sources.isEmpty || sources.contains(ObjectIdentifier(source))
        }

        func holds(for source: any ByteSource) -> Bool { concerns(source) && !hasPassed }
    }

    /// A file under this identity that may be wrong, or that makes this content so.
    struct Doubt {
        var file: StoredFile
        var name: String
        /// Bytes.
        var size: UInt64
        /// Whether its digest is known.
        let isSettled = Guarded(false)
    }

    /// Blocks until it is known whether a file that was found is right.
    func waitForVerdict(_ deadline: Deadline) {
        let doubt = state.withLock { $0.doubt }
        _ = doubt?.isSettled.wait(until: deadline) { $0 ? true : nil }
    }

    /// A chunk that did not come in time. The kernel asks again for a part of what it was refused, up to twice, before its reader
    /// hears of it, and then for each of the others that wait for the same page: none of these may wait as long again.
    struct Refusal {
        let error: MCFSError
        private let end = ContinuousClock.now + most
        private(set) var until = ContinuousClock.now + window

        /// One asks as soon as the one before it was refused; all of them have this long.
        private static let window = Duration.milliseconds(100)
        private static let most = Duration.seconds(1)

        mutating func renew() { until = min(end, ContinuousClock.now + Self.window) }
    }

    let key: ContentKey
    let grid: ChunkGrid
    let context: BlobContext
    let state: Lock<State>
    /// Files under its names that were no good when it was loaded.
    private let litter: [String]

    var id: BlobID { key.id }
    /// Whether its bytes can be checked.
    var hasDigest: Bool { key.id.kind != .origin }

    /// Loads what is local.
    ///
    /// - Parameter isKnownMissing: nothing is; the disk is not asked.
    init(_ key: ContentKey, chunkSize: UInt64, _ context: BlobContext, isKnownMissing: Bool) {
        self.key = key
        self.context = context
        var litter: [String] = []
        var found: BlobContext.Found?
        var failure: Errno?
        if !isKnownMissing, key.size > 0 {
            do throws(Errno) { found = try context.find(key, &litter) } catch { failure = error }
        }
        self.litter = litter
        if let failure {
            context.observer?.couldNotKeep(
                key, MCFSError(localIO: "open files of the cache directory \(context.directory.path)", failure))
        }
        let grid = found?.map?.grid ?? ChunkGrid(size: key.size, chunkSize: chunkSize)
        self.grid = grid
        let empty = Bitmap(count: grid.chunkCount)
        var state = State(present: empty, claimed: empty, served: empty)
        state.isComplete = key.size == 0
        state.isUnreadable = failure != nil
        switch found {
        case .whole(let file):
            state.file = file
            state.isComplete = true
        case .partial(let file, let map):
            state.file = file
            state.map = map.map
            state.mapIsForeign = map.isForeign
            state.present = map.present
            // Full and not checked: its writer ended in between.
            state.isComplete = map.present.isFull && key.id.kind == .origin
        case .doubtful(let doubt): state.doubt = doubt
        case nil: break
        }
        self.state = Lock(state)
    }

    /// It is in its table now: what was found of it counts. As the writer: another thread may store already.
    func wasLoaded() {
        write { [self] in
            if state.withLock({ $0.isUnreadable }) { return }
            let (bytes, diskBytes, isInDoubt) = state.withLock { state in
                (localBytes(of: state), bytesOnDisk(of: state), state.doubt?.size == key.size)
            }
            // A file that is in doubt takes its space.
            if key.size > 0, !isInDoubt, context.space.localBytes(key) ?? 0 != bytes {
                context.space.set(key, bytes: bytes, diskBytes: diskBytes)
            }
            sweep(litter)
        }
        judgeLoaded()
    }

    var isComplete: Bool { state.withLock { $0.isComplete } }

    var completeFile: StoredFile? { state.withLock { $0.isComplete ? $0.file : nil } }

    var generation: Int { state.withLock { $0.generation } }

    /// Bytes that are there.
    var localBytes: UInt64 { state.withLock { localBytes(of: $0) } }

    func localBytes(of state: borrowing State) -> UInt64 {
        state.isComplete ? key.size : grid.byteCount(of: state.present)
    }

    /// What its files take.
    func bytesOnDisk(of state: borrowing State) -> UInt64 {
        let bytes = Space.diskBytes(localBytes(of: state))
        return state.map == nil ? bytes : bytes + MapFile.diskBytes(grid, population: state.present.population)
    }
}

// MARK: - Reading

extension Blob {
    enum Lookup: ~Copyable {
        case region(FileRegion)
        /// The read waits. `unclaimed`: chunks it needs that nobody fetches yet; `fetched`: those that are being fetched.
        case pending(unclaimed: [Int], fetched: Set<Int>)
        /// Its reader has waited long enough already.
        case refused(PendingRead, MCFSError)
    }

    /// - Parameters:
    ///   - generation: of when the reader's file was opened.
    ///   - source: what the reader would fetch from.
    func read(
        _ range: ByteRange, generation: Int, from source: any ByteSource, makeRead: (Set<Int>) -> PendingRead
    ) throws(MCFSError) -> Lookup {
        try state.withLock { state throws(MCFSError) -> Lookup in
            if generation != state.generation {
                throw MCFSError(
                    .corrupt, "bytes of \(id) that were read earlier had a wrong digest; open the file again")
            }
            if state.isComplete, let file = state.file { return .region(FileRegion(file, range)) }
            if let failure = state.failure {
                if failure.holds(for: source) { throw failure.error }
                if failure.hasPassed {
                    state.failure = nil
                    state.mismatches = 0
                }
            }
            let chunks = grid.chunks(overlapping: range)
            if state.doubt == nil, let file = state.file, state.present.containsAll(chunks),
                mayServe(chunks, &state)
            {
                return .region(FileRegion(file, range))
            }
            let missing = state.doubt == nil ? Set(chunks.filter { !state.present[$0] }) : []
            let read = makeRead(missing)
            if !state.refused.isEmpty, let error = refusal(of: read, &state) { return .refused(read, error) }
            read.awaitsVerdict = missing.isEmpty
            state.reads.append(read)
            return .pending(
                unclaimed: missing.filter { !state.claimed[$0] }.sorted(),
                fetched: missing.filter { state.claimed[$0] })
        }
    }

    /// Whether these chunks may be given out now; notes that they are. The last of a content that is all there waits for the
    /// digest.
    private func mayServe(_ chunks: Range<Int>, _ state: inout State) -> Bool {
        if state.isComplete || !hasDigest { return true }
        let fresh = chunks.filter { !state.served[$0] }
        if state.present.isFull, state.served.population + fresh.count == grid.chunkCount { return false }
        if !fresh.isEmpty, state.served.population == 0 { context.givesOut(key) }
        for chunk in fresh { state.served.insert(chunk) }
        return true
    }

    /// Claims those of `chunks` that nobody has or fetches. - Returns: what was claimed.
    func claim(_ chunks: Range<Int>, from source: any ByteSource) -> [Int] {
        state.withLock { state in
            guard !state.isComplete, state.doubt == nil else { return [] }
            if let failure = state.failure, failure.holds(for: source) { return [] }
            return chunks.filter { !state.present[$0] && state.claimed.insert($0) }
        }
    }

    var isAwaited: Bool { state.withLock { !$0.reads.isEmpty } }

    /// The chunks that reads wait for and nobody fetches, and where to get them.
    func wanted() -> (chunks: [Int], content: FileContent)? {
        state.withLock { state in
            let chunks = Set(state.reads.flatMap(\.missing)).filter { !state.present[$0] && !state.claimed[$0] }
            guard let content = state.reads.first?.content, !chunks.isEmpty else { return nil }
            return (chunks.sorted(), content)
        }
    }
}

// MARK: - Reads that end

extension Blob {
    /// Reads that are through, and the file that has their bytes: taken together, since an eviction may replace it.
    struct Ready {
        var reads: [PendingRead] = []
        var file: StoredFile?
    }

    /// Takes out reads that have all their chunks and need not wait for the digest.
    func takeReady(_ state: inout State) -> Ready {
        var ready = Ready(file: state.file)
        guard state.doubt == nil else { return ready }
        let reads = state.reads
        state.reads = []
        for read in reads {
            let isThrough = read.missing.isEmpty && (state.isComplete || !read.awaitsVerdict)
            if isThrough, mayServe(grid.chunks(overlapping: read.range), &state) {
                ready.reads.append(read)
            } else {
                if isThrough { read.awaitsVerdict = true }
                state.reads.append(read)
            }
        }
        return ready
    }

    /// All reads of a content that is complete.
    func takeAll(_ state: inout State) -> Ready {
        defer { state.reads = [] }
        for read in state.reads { read.missing = [] }
        return Ready(reads: state.reads, file: state.file)
    }

    /// Takes out all reads, to fail them.
    func takeAllReads() -> [PendingRead] {
        state.withLock { state in
            defer { state.reads = [] }
            return state.reads
        }
    }

    /// Takes out the reads whose deadline has passed.
    func takeExpired(_ error: MCFSError) -> [PendingRead] {
        state.withLock { state in
            let now = ContinuousClock.now
            let expired = state.reads.filter { $0.deadline.instant <= now }
            if expired.isEmpty { return [] }
            state.reads.removeAll { $0.deadline.instant <= now }
            refuse(expired, error, &state)
            return expired
        }
    }

    /// Lets who asks for the same soon fail at once.
    private func refuse(_ reads: [PendingRead], _ error: MCFSError, _ state: inout State) {
        for read in reads where read.hasWaited(atLeast: .seconds(1)) {
            for chunk in read.missing { state.refused[chunk] = Refusal(error: error) }
        }
    }

    private func refusal(of read: PendingRead, _ state: inout State) -> MCFSError? {
        let now = ContinuousClock.now
        state.refused = state.refused.filter { $0.value.until > now }
        guard let chunk = read.missing.first(where: { state.refused[$0] != nil }) else { return nil }
        state.refused[chunk]?.renew()
        return state.refused[chunk]?.error
    }

    /// A fetch ended without this chunk.
    ///
    /// - Parameter deadline: that the fetch had.
    /// - Returns: reads to fail; and whether others still want the chunk, which must be fetched again.
    func release(_ chunk: Int, _ error: MCFSError, deadline: Deadline) -> (failed: [PendingRead], isWanted: Bool) {
        state.withLock { state in
            state.claimed.remove(chunk)
            // A read that joined late has more time than the fetch had, and is worth another one, unless the origin asked to be
            // left alone for longer.
            let late = deadline.instant + .seconds(1)
            let mayTryAgain = { (read: PendingRead) in
                error.isTransient && read.deadline.instant > late
                    && error.retryAfter.map { ContinuousClock.now + $0 < read.deadline.instant } ?? true
            }
            let failed = state.reads.filter { $0.missing.contains(chunk) && !mayTryAgain($0) }
            if !failed.isEmpty {
                state.reads.removeAll { $0.missing.contains(chunk) && !mayTryAgain($0) }
                if error.isTransient { refuse(failed, error, &state) }
            }
            return (failed, state.reads.contains { $0.missing.contains(chunk) })
        }
    }

    /// Gives a chunk that the cache could not keep to those who wait.
    ///
    /// - Parameter wasFetched: it came just now, for its claim.
    func deliverFromMemory(_ chunk: Int, _ buffer: MemoryBuffer, wasFetched: Bool) {
        let ready = state.withLock { state in
            if wasFetched { state.claimed.remove(chunk) }
            state.refused[chunk] = nil
            for read in state.reads where read.missing.contains(chunk) {
                read.take(chunk, UnsafeRawBufferPointer(buffer.bytes))
            }
            return takeReady(&state)
        }
        if hasDigest, !ready.reads.isEmpty { context.losesUnchecked(key, always: true) }
        answer(ready)
    }

    /// Answers reads that are through, outside of any lock.
    ///
    /// - Parameter holding: a chunk whose bytes are still in memory: reads of it need not go through the file.
    func answer(_ ready: Ready, holding: (chunk: Int, buffer: MemoryBuffer)? = nil) {
        for read in ready.reads {
            if let holding, grid.range(of: holding.chunk).contains(read.range) {
                read.waiter.complete(
                    .success(
                        FileRegion(
                            holding.buffer, offset: read.range.lowerBound - grid.range(of: holding.chunk).lowerBound,
                            count: read.range.count)))
            } else if let memory = read.memory {
                read.waiter.complete(assemble(read, memory, ready.file))
            } else if let file = ready.file {
                read.waiter.complete(.success(FileRegion(file, read.range)))
            } else {
                read.waiter.complete(.failure(MCFSError(.failed, "\(id) has no file")))
            }
        }
    }

    /// A read of which some chunks could be kept and others not: joins both in memory.
    private func assemble(
        _ read: PendingRead, _ memory: MemoryBuffer, _ file: StoredFile?
    ) -> Result<FileRegion, MCFSError> {
        for chunk in read.fromFile {
            let part = read.range.clamped(to: grid.range(of: chunk))
            let target = UnsafeMutableRawBufferPointer(
                rebasing: memory.bytes[Int(part.lowerBound - read.range.lowerBound)...].prefix(Int(part.count)))
            guard let file, let count = try? file.descriptor.read(into: target, at: part.lowerBound),
                count == target.count
            else {
                return .failure(MCFSError(.localIO, "the cache cannot read \(id) back", isTransient: true))
            }
        }
        return .success(FileRegion(memory))
    }
}
