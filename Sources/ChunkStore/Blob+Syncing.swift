internal import Glibc
import MCFSCore
import Synchronization

/// What is known to be on the disk. All of it runs as the writer.
extension Blob {
    /// What a sync of the file makes last.
    struct Unsynced: Sendable {
        let file: StoredFile
        let present: Bitmap
    }

    /// What is there now and may not be on disk; nil: nothing.
    var unsynced: Unsynced? {
        state.withLock { state in
            state.file.map { Unsynced(file: $0, present: state.present) }
        }
    }

    /// The file was synced after `unsynced` was asked: notes it, and gives a complete content its name.
    ///
    /// - Returns: what must be synced for that to last.
    func wasSynced(_ unsynced: Unsynced) -> Noted? {
        writeAndWait { [self] in
            do throws(Errno) { return try noteSynced(unsynced) } catch {
                // Nothing is lost: it is only not known to last, and is tried again.
                couldNotKeep(error, "write to")
                context.dirty.add(key)
                return nil
            }
        }
    }

    enum Noted: Sendable {
        case map(MapFile)
        /// Of `blobs`, with a new name in it.
        case folder(String)
    }

    private func noteSynced(_ unsynced: Unsynced) throws(Errno) -> Noted? {
        let directory = context.directory
        let (isCurrent, map, isComplete) = state.withLock { ($0.file === unsynced.file, $0.map, $0.isComplete) }
        guard isCurrent else { return nil }
        let name = CacheDirectory.blob(id)
        if let map {
            guard isComplete, unsynced.present.isFull else {
                let hash = unsynced.file.hashing?.saved
                try map.recordSynced(
                    unsynced.present, hash: hash.flatMap { unsynced.present.containsAll(0..<$0.count) ? $0 : nil })
                return .map(map)
            }
            try directory.rename(CacheDirectory.partial(key), name)
            directory.remove(CacheDirectory.map(key))
            state.withLock { $0.map = nil }
            context.space.set(key, bytes: key.size, diskBytes: Space.diskBytes(key.size))
        } else {
            guard isComplete, directory.status(directory.fresh(id)) != nil else { return nil }
            try directory.rename(directory.fresh(id), name)
        }
        return .folder(CacheDirectory.blobFolder(id))
    }

    /// A sync failed: what was written since the last one may not be there any more.
    func couldNotSync(_ unsynced: Unsynced, _ error: Errno) {
        writeAndWait { [self] in
            guard state.withLock({ $0.file === unsynced.file }) else { return }
            couldNotKeep(error, "sync")
            goBackToSynced()
            if isAwaited { context.observer?.wantsChunks(key) }
        }
    }

    /// Forgets what is not known to be on the disk. Who has the file open keeps what the page cache has.
    private func goBackToSynced() {
        // Whoever was given a whole file must not see it change.
        let (file, map) = state.withLock { $0.isComplete || $0.mapIsForeign ? (nil, nil) : ($0.file, $0.map) }
        guard let file, let map, let synced = try? map.synced, synced.population > 0,
            (try? map.takeOver(synced, in: context.directory)) != nil
        else { return reset() }
        // Hashed anew: what comes again may not be what was hashed.
        let again = StoredFile(
            file.descriptor, space: context.space, hashing: StoredFile.Hashing(id, size: key.size))
        let (bytes, diskBytes) = state.withLock { state in
            context.losesUnchecked(key)
            state.file = again
            state.present = synced
            state.unhashed = [:]
            wantAgain(&state)
            return (localBytes(of: state), bytesOnDisk(of: state))
        }
        context.space.set(key, bytes: bytes, diskBytes: diskBytes)
        judgeLoaded()
    }
}
