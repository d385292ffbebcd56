internal import Glibc
import MCFSCore
import Synchronization

/// How chunks get into the file, and the file gets complete and gone. All of it runs as the writer.
extension Blob {
    /// Runs `work` as this content's writer: now, on this thread, or after what is being done, on the thread that does it.
    func write(_ work: @escaping @Sendable () -> Void) {
        let isWriter = state.withLock { state in
            state.work.append(work)
            defer { state.hasWriter = true }
            return !state.hasWriter
        }
        guard isWriter else { return }
        while let work = nextWork() { work() }
    }

    private func nextWork() -> (@Sendable () -> Void)? {
        state.withLock { state in
            if state.work.isEmpty {
                state.hasWriter = false
                return nil
            }
            return state.work.removeFirst()
        }
    }

    /// The same, and waits for it. Never from work of another content's writer.
    func writeAndWait<Result: Sendable>(_ work: @escaping @Sendable () -> Result) -> Result {
        let done = Guarded(Result?.none)
        write {
            let result = work()
            done.update { $0 = result }
        }
        guard let result = done.wait({ $0 }) else {
            preconditionFailure("a wait without a deadline ended without a result")
        }
        return result
    }

    // MARK: Chunks

    /// Keeps a chunk that came, or at least gives it to those who wait.
    ///
    /// - Parameters:
    ///   - source: where it came from.
    ///   - room: of which the chunk may take its part; nil: there is none.
    /// - Returns: why it could not be kept; nil where it is, or nobody needs it.
    func store(
        _ chunk: Int, _ buffer: MemoryBuffer, from source: any ByteSource, _ room: Reservation?
    ) -> MCFSError? {
        let isWanted = state.withLock { state in
            if !state.isComplete && !state.present[chunk] {
                state.sources.insert(ObjectIdentifier(source))
                return true
            }
            state.claimed.remove(chunk)
            return false
        }
        guard isWanted else { return nil }
        if grid.chunkCount == 1 {
            if var hasher = ContentHasher(id, size: key.size) {
                hasher.update(UnsafeRawBufferPointer(buffer.bytes))
                guard hasher.digest() == id.bytes else {
                    state.withLock { $0.claimed.remove(chunk) }
                    foundWrong()
                    return nil
                }
            }
            return adopt(.bytes(buffer), room)
        }
        if let error = hindrance(room) { return error }
        do throws(Errno) {
            let (file, map) = try fileForWriting()
            try file.descriptor.write(UnsafeRawBufferPointer(buffer.bytes), at: grid.range(of: chunk).lowerBound)
            let others = state.withLock { $0.present.byte(holding: chunk) }
            try map.record(chunk, byte: others | 1 << UInt8(chunk & 7))
        } catch {
            return couldNotKeep(error, "write to")
        }
        let (ready, bytes, diskBytes, hashes) = state.withLock { state in
            state.present.insert(chunk)
            state.claimed.remove(chunk)
            state.refused[chunk] = nil
            for read in state.reads { read.missing.remove(chunk) }
            if state.present.isFull && !hasDigest { state.isComplete = true }
            let hashes = keepForHashing(chunk, buffer, &state)
            return (takeReady(&state), localBytes(of: state), bytesOnDisk(of: state), hashes)
        }
        context.space.set(key, bytes: bytes, diskBytes: diskBytes, from: room)
        context.dirty.add(key)
        answer(ready, holding: (chunk, buffer))
        if hashes { hashLater() }
        return nil
    }

    /// Why nothing can be kept, whatever the disk says.
    private func hindrance(_ room: Reservation?) -> MCFSError? {
        if room == nil {
            return MCFSError(
                .noSpace,
                "the cache is full of what may not go: raise --cache-size, or allow more of it to go with 'mcfs unpin'")
        }
        guard state.withLock({ $0.isUnreadable }) else { return nil }
        return MCFSError(
            .localIO,
            "cannot keep \(id): its files in the cache directory \(context.directory.path) cannot be looked at")
    }

    /// The partial file and its map, made where they are not there.
    private func fileForWriting() throws(Errno) -> (file: StoredFile, map: MapFile) {
        let directory = context.directory
        let made = state.withLock { state in
            state.file.flatMap { file in state.map.map { (file, $0, state.mapIsForeign ? state.present : nil) } }
        }
        if let (file, map, foreign) = made {
            if let foreign {
                try map.takeOver(foreign, in: directory)
                state.withLock { $0.mapIsForeign = false }
            }
            return (file, map)
        }
        let name = CacheDirectory.partial(key)
        directory.remove(CacheDirectory.map(key))
        directory.remove(name)
        let descriptor = try directory.create(name)
        _ = try retryingOnInterrupt { ftruncate(descriptor.rawValue, off_t(key.size)) }
        let map = try MapFile.create(key, grid, of: descriptor, in: directory)
        let file = StoredFile(
            descriptor, space: context.space, hashing: StoredFile.Hashing(id, size: key.size))
        state.withLock { state in
            state.file = file
            state.map = map
            state.mapIsForeign = false
        }
        return (file, map)
    }

    /// Removes files of a part of it that do not count: nothing else names them.
    func clearPartial() {
        write { [self] in
            guard state.withLock({ $0.map == nil && !$0.isUnreadable }) else { return }
            // The map first, as everywhere.
            context.directory.remove(CacheDirectory.map(key))
            context.directory.remove(CacheDirectory.partial(key))
        }
    }

    /// Removes files that were no good when this was loaded, unless it has made others since.
    func sweep(_ names: [String]) {
        guard state.withLock({ $0.file == nil }) else { return }
        for name in names { context.directory.remove(name) }
    }

    // MARK: Whole contents

    enum Whole: Sendable {
        case bytes(MemoryBuffer)
        /// In `tmp`.
        case file(OwnedDescriptor, name: String)
    }

    /// Takes over a whole content whose digest is right, if it has one.
    ///
    /// - Returns: why it could not be kept; nil where it is there.
    func adopt(_ whole: Whole, _ room: Reservation?) -> MCFSError? {
        let directory = context.directory
        if state.withLock({ $0.isComplete }) { return nil }
        if let error = hindrance(room) { return error }
        // Under a name of its own until it is whole: a short file must not pass for a content.
        let descriptor: OwnedDescriptor
        let temporary: String
        do throws(Errno) {
            switch whole {
            case .bytes(let buffer):
                temporary = "tmp/\(id).\(key.size)"
                directory.remove(temporary)
                descriptor = try directory.create(temporary)
                try descriptor.write(UnsafeRawBufferPointer(buffer.bytes), at: 0)
            case .file(let file, let name): (descriptor, temporary) = (file, name)
            }
            try directory.rename(temporary, directory.fresh(id))
        } catch {
            directory.remove("tmp/\(id).\(key.size)")
            return couldNotKeep(error, "write to")
        }
        let file = StoredFile(descriptor, space: context.space)
        let (ready, old) = state.withLock { state in
            context.losesUnchecked(key)
            let old = state.map == nil ? nil : state.file
            state.file = file
            state.map = nil
            becomeComplete(&state)
            return (takeAll(&state), old)
        }
        // What there was of it in part.
        if let old {
            directory.remove(CacheDirectory.map(key))
            directory.remove(CacheDirectory.partial(key))
            old.wasUnlinked(bytes: context.space.localBytes(key) ?? 0)
        }
        context.removeUnproven(id)
        context.space.set(key, bytes: key.size, diskBytes: Space.diskBytes(key.size), from: room)
        context.dirty.add(key)
        if case .bytes(let buffer) = whole, grid.chunkCount == 1 {
            answer(ready, holding: (0, buffer))
        } else {
            answer(ready)
        }
        return nil
    }

    /// The same from outside of the writer; blocks until it is done.
    func adoptAndWait(_ whole: Whole, _ room: Reservation?) {
        writeAndWait { [self] in
            _ = adopt(whole, room)
            // Where it was not taken over it is still there.
            if case .file(_, let temporary) = whole { context.directory.remove(temporary) }
        }
    }

    private func becomeComplete(_ state: inout State) {
        state.isComplete = true
        state.doubt = nil
        state.mismatches = 0
        state.refused = [:]
        state.unhashed = [:]
        state.claimed.removeAll()
        state.served.removeAll()
    }

    // MARK: Judged

    /// The digest of all that is there is known. - Parameter file: what was hashed.
    func judge(_ file: StoredFile, isRight: Bool) {
        if isRight {
            let ready = state.withLock { state -> Ready? in
                guard state.file === file, !state.isComplete else { return nil }
                context.isChecked(key)
                becomeComplete(&state)
                return takeAll(&state)
            }
            // Another file has taken its place meanwhile, which may be waiting for this.
            guard let ready else { return judgeLoaded() }
            // Now it can get its name.
            context.dirty.add(key, holding: context.table?.hold(self))
            answer(ready)
        } else if state.withLock({ $0.file === file && !$0.isComplete }) {
            foundWrong()
        } else {
            judgeLoaded()
        }
    }

    /// What came has a wrong digest: it is thrown away, and fetched once more if nobody has seen a byte of it.
    private func foundWrong() {
        let error = MCFSError(
            .corrupt, "the bytes fetched for \(id) do not match it; the origin or the way to it corrupts data")
        let (wasServed, isFinal, failed) = state.withLock { state -> (Bool, Bool, [PendingRead]) in
            state.mismatches += 1
            // By this load of it or by an earlier one.
            let wasServed = context.areWrong(key)
            if wasServed { state.generation += 1 }
            let isFinal = wasServed || state.mismatches >= 2
            let failure = Failure(error: error, sources: state.sources)
            if state.mismatches >= 2 { state.failure = failure }
            if !isFinal { return (wasServed, isFinal, []) }
            // Who reads from elsewhere and has seen nothing of it gets another try.
            let failed = state.reads.filter { wasServed || failure.concerns($0.content.source) }
            state.reads.removeAll { wasServed || failure.concerns($0.content.source) }
            return (wasServed, isFinal, failed)
        }
        reset(dropsMemory: true)
        context.observer?.foundCorrupt(key, isFinal ? error : nil, failed, wasServed: wasServed)
        if isAwaited { context.observer?.wantsChunks(key) }
    }

    /// A file that was right is not any more, and may have been read. Blocks until it is gone.
    func foundDamaged(_ file: StoredFile, _ error: MCFSError) {
        writeAndWait { [self] in
            let isCurrent = state.withLock { state in
                guard state.file === file else { return false }
                state.generation += 1
                context.losesUnchecked(key, always: true)
                return true
            }
            guard isCurrent else { return }
            reset()
            context.observer?.foundCorrupt(key, error, [], wasServed: true)
        }
    }

    /// What is known of a file that was in doubt.
    func judge(_ doubt: Doubt, isRight: Bool) {
        guard state.withLock({ $0.doubt?.file === doubt.file }) else { return }
        defer { doubt.isSettled.update { $0 = true } }
        let isThis = doubt.size == key.size
        if isRight && isThis { return adoptProven(doubt) }
        let error = MCFSError(
            .corrupt,
            "\(id) has \(doubt.size) bytes, not \(key.size) as its origin says; what the origin lists is wrong")
        if isRight {
            // The content is what it should be: nothing of the other size can ever match its digest.
            let reads = state.withLock { state in
                state.doubt = nil
                state.failure = Failure(error: error, sources: [])
                defer { state.reads = [] }
                return state.reads
            }
            context.observer?.foundCorrupt(key, error, reads, wasServed: false)
            return
        }
        context.removeWhole(doubt.name, size: doubt.size)
        context.removeUnproven(id)
        context.space.set(ContentKey(id, size: doubt.size), bytes: 0, diskBytes: 0)
        state.withLock { state in
            state.doubt = nil
            wantAgain(&state)
        }
        context.observer?.wantsChunks(key)
    }

    private func adoptProven(_ doubt: Doubt) {
        do throws(Errno) { try context.directory.rename(doubt.name, context.directory.fresh(id)) } catch {
            // It stays in doubt for the next start; who waits gets the bytes from the origin.
            couldNotKeep(error, "move files in")
            state.withLock { state in
                state.doubt = nil
                wantAgain(&state)
            }
            context.observer?.wantsChunks(key)
            return
        }
        context.removeUnproven(id)
        let ready = state.withLock { state in
            state.file = doubt.file
            becomeComplete(&state)
            return takeAll(&state)
        }
        context.space.set(key, bytes: key.size, diskBytes: Space.diskBytes(key.size))
        context.dirty.add(key)
        answer(ready)
    }

    // MARK: Gone

    /// Drops what is local, unless its digest is awaited. Whoever has the file open keeps reading it; reads that wait go on
    /// waiting. Blocks until that is done. - Returns: bytes that were local.
    func evict() -> UInt64 {
        writeAndWait { [self] in
            let bytes = state.withLock { state -> UInt64? in
                if state.doubt != nil || state.reads.contains(where: \.awaitsVerdict) { return nil }
                return context.space.localBytes(key) ?? localBytes(of: state)
            }
            guard let bytes else { return 0 }
            reset()
            if isAwaited { context.observer?.wantsChunks(key) }
            return bytes
        }
    }

    /// Goes back to an empty file.
    ///
    /// - Parameter dropsMemory: also what reads have taken into memory.
    func reset(dropsMemory: Bool = false) {
        context.remove(key)
        let (old, diskBytes) = state.withLock { state in
            context.losesUnchecked(key)
            if dropsMemory { for read in state.reads { read.dropMemory() } }
            defer {
                state.file = nil
                state.map = nil
                state.isUnreadable = false
                state.present.removeAll()
                state.served.removeAll()
                state.unhashed = [:]
                state.sources = []
                state.isComplete = key.size == 0
                wantAgain(&state)
            }
            return (state.file, bytesOnDisk(of: state))
        }
        context.space.set(key, bytes: 0, diskBytes: 0)
        old?.wasUnlinked(bytes: diskBytes)
    }

    /// What waits for chunks that were there must ask for them again.
    func wantAgain(_ state: inout State) {
        for read in state.reads {
            read.missing = Set(grid.chunks(overlapping: read.range)).subtracting(read.inMemory)
            read.awaitsVerdict = false
        }
    }

    @discardableResult
    func couldNotKeep(_ error: Errno, _ what: String) -> MCFSError {
        let error = MCFSError(localIO: "\(what) the cache directory \(context.directory.path)", error)
        context.observer?.couldNotKeep(key, error)
        return error
    }
}
