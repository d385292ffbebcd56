internal import Glibc
import Synchronization
import MCFSCore

/// The local state of one content: which chunks are there, which are being fetched, who waits.
///
/// States: *filling* (reads are answered as their chunks come) → *verifying* (all chunks are there; every read waits) →
/// *complete* (in `blobs/`). A content that is evicted, or whose digest is wrong, goes back to filling with an empty
/// file: the old file is unlinked and whoever has it open keeps reading it. `epoch` tells a writer that its file was
/// replaced meanwhile.
///
/// Locks, in this order: `names` (renames and unlinks; metadata system calls only) → `recording` (the map file) → `state` (a few lines, no
/// system call). The read path takes `state` alone.
///
/// Crash: a chunk's bit is recorded after its bytes are written and before anybody is told, so a bit that is found again
/// is true and a read that was answered is found again.
final class Blob: Sendable {
    enum Phase { case filling, verifying, complete }

    struct State {
        var phase = Phase.filling
        var file: OwnedDescriptor?
        var map: MapFile?
        var epoch = 0
        var present: Bitmap
        /// Chunks that a fetch has been asked for.
        var claimed: Bitmap
        var reads: [PendingRead] = []
        var hasher: ContentHasher?
        /// Chunks from the first on that went into `hasher`.
        var hashed = 0
        var isHashing = false
        /// Raised when served bytes turned out wrong: files opened before must fail.
        var generation = 0
        var hasServedUnverified = false
        /// How often the digest was wrong since it last was right.
        var mismatches = 0
        /// Set after the second mismatch: what reads get until then.
        var failure: (error: MCFSError, until: ContinuousClock.Instant)?
    }

    let id: BlobID
    let grid: ChunkGrid
    let directory: CacheDirectory
    let names = Mutex<Void>(())
    let recording = Mutex<Void>(())
    let state: Mutex<State>

    /// Loads what is local.
    init(_ id: BlobID, size: UInt64, chunkSize: UInt64, directory: CacheDirectory, isKnownMissing: Bool) {
        self.id = id
        self.directory = directory
        var grid = ChunkGrid(size: size, chunkSize: chunkSize)
        var file: OwnedDescriptor?
        var map: MapFile?
        var present: Bitmap?
        var phase = Phase.filling
        if !isKnownMissing {
            if let complete = try? directory.openIfThere(CacheDirectory.complete(id), O_RDONLY) {
                if let status = try? complete.status(), UInt64(status.st_size) == size {
                    (file, phase) = (complete, .complete)
                } else {
                    directory.remove(CacheDirectory.complete(id))
                }
            }
            // The grid is the one that the content was begun with.
            if phase == .filling, let begun = MapFile.grid(of: CacheDirectory.map(id), in: directory),
                begun.size == size,
                let partial = try? directory.openIfThere(CacheDirectory.partial(id), O_RDWR),
                let (found, bits) = MapFile.open(CacheDirectory.map(id), in: directory, grid: begun)
            {
                (grid, file, map, present) = (begun, partial, found, bits)
            }
        }
        self.grid = grid
        var state = State(
            phase: phase, file: file, map: map, present: present ?? Bitmap(count: grid.chunkCount),
            claimed: Bitmap(count: grid.chunkCount), hasher: ContentHasher(id, size: size))
        if size == 0 { state.phase = .complete }
        // Whole but not yet checked: a crash came in between. See `BlobTable.use`.
        if phase == .filling, size > 0, state.present.isFull { state.phase = .verifying }
        self.state = Mutex(state)
    }

    var isComplete: Bool { state.withLock { $0.phase == .complete } }

    var completeFile: OwnedDescriptor? { state.withLock { $0.phase == .complete ? $0.file : nil } }

    var isFullUnchecked: Bool { state.withLock { $0.phase == .verifying } }

    /// Bytes that are there.
    var localBytes: UInt64 { state.withLock { localBytes($0) } }

    private func localBytes(_ state: borrowing State) -> UInt64 {
        if state.phase == .complete { return grid.size }
        guard grid.chunkCount > 0, state.present.population > 0 else { return 0 }
        let last = state.present[grid.chunkCount - 1] ? grid.range(of: grid.chunkCount - 1).count : grid.chunkSize
        return UInt64(state.present.population - 1) * grid.chunkSize + last
    }
}

// MARK: - Reading

extension Blob {
    enum Lookup: ~Copyable {
        case region(FileRegion)
        /// The read waits. `unclaimed`: chunks it needs that nobody fetches yet. `isFetching`: others are being fetched.
        case pending(unclaimed: [Int], isFetching: Bool)
    }

    /// - Parameter generation: of when the reader's file was opened.
    func read(
        _ range: ByteRange, generation: Int, makeRead: (Set<Int>) -> PendingRead
    ) throws(MCFSError) -> Lookup {
        try state.withLock { state throws(MCFSError) -> Lookup in
            if generation != state.generation {
                throw MCFSError(
                    .corrupt, "bytes of \(id) that were read earlier had a wrong digest; open the file again")
            }
            if state.phase == .complete, let file = state.file { return .region(FileRegion(file, range)) }
            if let failure = state.failure {
                if failure.until > ContinuousClock.now { throw failure.error }
                state.failure = nil
                state.mismatches = 0
            }
            let chunks = grid.chunks(overlapping: range)
            if state.phase == .filling, let file = state.file, !state.present.isFull, state.present.containsAll(chunks)
            {
                state.hasServedUnverified = true
                return .region(FileRegion(file, range))
            }
            let missing = Set(chunks.filter { !state.present[$0] })
            state.reads.append(makeRead(missing))
            return .pending(
                unclaimed: missing.filter { !state.claimed[$0] }.sorted(),
                isFetching: missing.contains { state.claimed[$0] })
        }
    }

    var generation: Int { state.withLock { $0.generation } }

    /// Claims those of `chunks` that nobody has or fetches. - Returns: what was claimed.
    func claim(_ chunks: Range<Int>) -> [Int] {
        state.withLock { state in
            guard state.phase == .filling else { return [] }
            return chunks.filter { !state.present[$0] && state.claimed.insert($0) }
        }
    }

    /// Takes out the reads whose deadline has passed.
    func takeExpired() -> [PendingRead] {
        state.withLock { state in
            let now = ContinuousClock.now
            let expired = state.reads.filter { $0.deadline.instant <= now }
            if !expired.isEmpty { state.reads.removeAll { $0.deadline.instant <= now } }
            return expired
        }
    }

    func takeAllReads() -> [PendingRead] {
        state.withLock { state in
            defer { state.reads = [] }
            return state.reads
        }
    }

    /// Reads that are through, and the file that has their bytes: taken together, since an eviction may replace it.
    struct Ready {
        var reads: [PendingRead] = []
        var file: OwnedDescriptor?
    }

    /// Takes out reads that have all their chunks, unless they must wait for the digest.
    static func takeReady(_ state: inout State) -> Ready {
        guard state.phase != .verifying else { return Ready() }
        let ready = state.reads.filter { $0.missing.isEmpty }
        if ready.isEmpty { return Ready() }
        state.reads.removeAll { $0.missing.isEmpty }
        if state.phase == .filling { state.hasServedUnverified = true }
        return Ready(reads: ready, file: state.file)
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
        _ read: PendingRead, _ memory: MemoryBuffer, _ file: OwnedDescriptor?
    ) -> Result<FileRegion, MCFSError> {
        for chunk in read.fromFile {
            let part = read.range.clamped(to: grid.range(of: chunk))
            let target = UnsafeMutableRawBufferPointer(
                rebasing: memory.bytes[Int(part.lowerBound - read.range.lowerBound)...].prefix(Int(part.count)))
            guard let file, let count = try? file.read(into: target, at: part.lowerBound), count == target.count else {
                return .failure(MCFSError(.localIO, "the cache cannot read \(id) back", isTransient: true))
            }
        }
        return .success(FileRegion(memory))
    }
}

// MARK: - Fetching ends

extension Blob {
    /// A chunk came that the cache cannot keep. - Returns: reads that are through; answer them.
    func deliverFromMemory(_ chunk: Int, _ bytes: UnsafeRawBufferPointer) -> Ready {
        state.withLock { state in
            state.claimed.remove(chunk)
            for read in state.reads where read.missing.contains(chunk) {
                read.take(chunk, bytes)
            }
            return Self.takeReady(&state)
        }
    }

    /// A fetch ended without this chunk.
    /// - Returns: reads to fail; and whether others still want the chunk, which must be fetched again.
    func release(_ chunk: Int, _ error: MCFSError) -> (failed: [PendingRead], isWanted: Bool) {
        state.withLock { state in
            state.claimed.remove(chunk)
            // A read that joined late has time left: its chunk is asked for again.
            let patience = Deadline(after: .seconds(1))
            let mayTryAgain = { (read: PendingRead) in error.isTransient && read.deadline.instant > patience.instant }
            let failed = state.reads.filter { $0.missing.contains(chunk) && !mayTryAgain($0) }
            if !failed.isEmpty { state.reads.removeAll { $0.missing.contains(chunk) && !mayTryAgain($0) } }
            return (failed, state.reads.contains { $0.missing.contains(chunk) })
        }
    }
}
