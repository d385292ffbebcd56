import Synchronization
internal import Glibc
import MCFSCore

/// How chunks get into the file, and how the file gets complete.
extension Blob {
    enum Stored {
        /// Reads that are through; answer them. Call `finishIfFull` afterwards.
        case kept(Ready)
        /// The content became complete by other means meanwhile.
        case superseded(Ready)
    }

    /// Writes a chunk and marks it present. The caller has reserved its space.
    ///
    /// - Throws: what the disk said; nothing is marked then.
    func store(_ chunk: Int, _ bytes: UnsafeRawBufferPointer) throws(Errno) -> Stored {
        while true {
            let (file, map, epoch) = try fileForWriting()
            guard let file else {
                return .superseded(
                    state.withLock { state in
                        state.claimed.remove(chunk)
                        return state.phase == .complete ? Self.takeAll(&state) : Ready()
                    })
            }
            try file.write(bytes, at: grid.range(of: chunk).lowerBound)
            // One recorder at a time: a byte of the map holds bits of eight chunks.
            let marked = try recording.withLock { _ throws(Errno) -> (isCurrent: Bool, ready: Ready) in
                let recorded = state.withLock { state -> Bitmap? in
                    guard state.epoch == epoch else { return nil }
                    var bits = state.present
                    bits.insert(chunk)
                    return bits
                }
                guard let recorded else { return (false, Ready()) }
                try map?.record(chunk, recorded)
                return state.withLock { state in
                    guard state.epoch == epoch else { return (false, Ready()) }
                    state.present.insert(chunk)
                    state.claimed.remove(chunk)
                    if state.present.isFull { state.phase = .verifying }
                    for read in state.reads { read.missing.remove(chunk) }
                    return (true, Self.takeReady(&state))
                }
            }
            // The file was replaced while it was written: the bytes go into the new one.
            if marked.isCurrent { return .kept(marked.ready) }
        }
    }

    /// All reads of a content that is complete.
    private static func takeAll(_ state: inout State) -> Ready {
        defer { state.reads = [] }
        for read in state.reads { read.missing = [] }
        return Ready(reads: state.reads, file: state.file)
    }

    /// The partial file and its map, made where they are not there. nil where the content is complete.
    private func fileForWriting() throws(Errno) -> (file: OwnedDescriptor?, map: MapFile?, epoch: Int) {
        let now = state.withLock { ($0.phase == .filling ? $0.file : nil, $0.map, $0.epoch, $0.phase) }
        if now.0 != nil || now.3 != .filling { return (now.0, now.1, now.2) }
        return try names.withLock { _ throws(Errno) in
            let now = state.withLock { ($0.phase == .filling ? $0.file : nil, $0.map, $0.epoch, $0.phase) }
            if now.0 != nil || now.3 != .filling { return (now.0, now.1, now.2) }
            let file = try directory.open(CacheDirectory.partial(id), O_RDWR | O_CREAT | O_TRUNC)
            var map: MapFile?
            if grid.chunkCount > 1 {
                _ = try retryingOnInterrupt { ftruncate(file.rawValue, off_t(grid.size)) }
                // A content of one chunk is either complete or not there: it needs no map.
                map = try MapFile.create(CacheDirectory.map(id), in: directory, grid: grid)
            }
            return state.withLock { state in
                state.file = file
                state.map = map
                return (file, map, state.epoch)
            }
        }
    }

    enum Finish {
        /// Not all chunks are there, or another thread is at it.
        case notYet
        /// Complete: answer these.
        case complete(Ready)
        /// The digest was wrong and nobody has seen a byte: the chunks that these reads want must be fetched again.
        case refetch
        /// The digest was wrong: fail these, and make the kernel forget what it cached.
        case wrong([PendingRead], MCFSError)
    }

    /// Hashes what can be hashed in order; at the end compares the digest and moves the file to its final name.
    /// Called after each chunk, by any thread.
    func finishIfFull() -> Finish {
        while true {
            switch hashNext() {
            case .stop: return .notYet
            case .hashed: continue
            case .full(let isRight, let epoch):
                if let finish = isRight ? complete(epoch) : discard(epoch) { return finish }
            }
        }
    }

    private enum HashStep { case stop, hashed, full(isRight: Bool, epoch: Int) }

    private func hashNext() -> HashStep {
        enum Work {
            case nothing
            case hash(OwnedDescriptor, ContentHasher, chunk: Int, epoch: Int)
            case compare(ContentHasher?, epoch: Int)
        }
        let work = state.withLock { state -> Work in
            guard !state.isHashing, state.phase != .complete else { return .nothing }
            guard let hasher = state.hasher, state.hashed < grid.chunkCount else {
                guard state.phase == .verifying else { return .nothing }
                state.isHashing = true
                return .compare(state.hasher, epoch: state.epoch)
            }
            guard state.present[state.hashed], let file = state.file else { return .nothing }
            state.isHashing = true
            // Taken out, so that updating it copies nothing.
            state.hasher = nil
            return .hash(file, hasher, chunk: state.hashed, epoch: state.epoch)
        }
        switch work {
        case .nothing:
            return .stop
        case .hash(let file, var hasher, let chunk, let epoch):
            // A read error hashes to something wrong and is found at the end.
            try? hasher.update(file, grid.range(of: chunk))
            state.withLock { state in
                // A new file has a new hasher, and maybe somebody at it already.
                guard state.epoch == epoch else { return }
                state.isHashing = false
                state.hasher = hasher
                state.hashed = chunk + 1
            }
            return .hashed
        case .compare(let hasher, let epoch):
            return .full(isRight: hasher.map { $0.digest() == id.bytes } ?? true, epoch: epoch)
        }
    }

    /// - Returns: nil where the file was replaced meanwhile.
    private func complete(_ epoch: Int) -> Finish? {
        names.withLock { _ in
            guard state.withLock({ $0.epoch == epoch }) else { return nil }
            // If the rename fails, the partial file with its full map is as good.
            if (try? directory.rename(CacheDirectory.partial(id), CacheDirectory.complete(id))) != nil {
                directory.remove(CacheDirectory.map(id))
            }
            return state.withLock { state in
                state.isHashing = false
                state.phase = .complete
                state.hasher = nil
                state.map = nil
                state.mismatches = 0
                return .complete(Self.takeAll(&state))
            }
        }
    }

    /// Throws away bytes whose digest is wrong. - Returns: nil where the file was replaced meanwhile.
    private func discard(_ epoch: Int) -> Finish? {
        let error = MCFSError(
            .corrupt, "the bytes fetched for \(id) do not match it; the origin or the way to it corrupts data")
        return reset { state in
            guard state.epoch == epoch else { return nil }
            state.mismatches += 1
            let served = state.hasServedUnverified
            if served { state.generation += 1 }
            if state.mismatches >= 2 { state.failure = (error, ContinuousClock.now + .seconds(30)) }
            if served || state.mismatches >= 2 { return .wrong(Self.takeAll(&state).reads, error) }
            return .refetch
        }
    }

    /// Drops what is local, unless it is being verified. Whoever has the file open keeps reading it; reads that wait go on
    /// waiting: see `fetchWanted`. - Returns: whether it was dropped.
    func evict() -> Bool { reset { state in state.phase == .verifying ? nil : true } ?? false }

    /// Goes back to an empty file, if `body` gives a result; it runs under the state's lock, before that.
    private func reset<Result>(_ body: (inout State) -> Result?) -> Result? {
        names.withLock { _ in
            let result = state.withLock { state -> Result? in
                guard let result = body(&state) else { return nil }
                state.epoch += 1
                state.file = nil
                state.map = nil
                state.present.removeAll()
                state.phase = grid.size == 0 ? .complete : .filling
                state.hasher = ContentHasher(id, size: grid.size)
                state.hashed = 0
                state.isHashing = false
                state.hasServedUnverified = false
                // What waits for chunks that were there must ask for them again.
                for read in state.reads {
                    read.missing = Set(grid.chunks(overlapping: read.range)).subtracting(read.inMemory)
                }
                return result
            }
            // No new file is made meanwhile: that takes `names`.
            if result != nil {
                directory.remove(CacheDirectory.map(id))
                directory.remove(CacheDirectory.partial(id))
                directory.remove(CacheDirectory.complete(id))
            }
            return result
        }
    }

    /// The chunks that reads wait for and nobody fetches, and where to get them.
    func wanted() -> (chunks: [Int], content: FileContent)? {
        state.withLock { state in
            let chunks = Set(state.reads.flatMap(\.missing)).filter { !state.present[$0] && !state.claimed[$0] }
            guard let content = state.reads.first?.content, !chunks.isEmpty else { return nil }
            return (chunks.sorted(), content)
        }
    }

    var isAwaited: Bool { state.withLock { !$0.reads.isEmpty } }

    /// A whole file took the final name: written elsewhere, with the right digest.
    func adopt(_ file: OwnedDescriptor) -> Ready {
        names.withLock { _ in
            directory.remove(CacheDirectory.map(id))
            directory.remove(CacheDirectory.partial(id))
            return state.withLock { state in
                state.epoch += 1
                state.file = file
                state.map = nil
                state.phase = .complete
                state.hasher = nil
                return Self.takeAll(&state)
            }
        }
    }

    /// Repeats in the map's durable half what was there before a sync. `sync` is run in between.
    func snapshotForSync() -> (map: MapFile, present: Bitmap)? {
        state.withLock { state in state.map.map { ($0, state.present) } }
    }
}
