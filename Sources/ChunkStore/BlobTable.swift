import Synchronization
import MCFSCore

/// The blobs that somebody uses now: one `Blob` per identity, shared, gone with its last `BlobUse`.
final class BlobTable: Sendable {
    private let active = Mutex<[BlobID: (blob: Blob, uses: Int)]>([:])
    private let directory: CacheDirectory
    private let index: LocalIndex
    private let chunkSize: UInt64
    /// Takes blobs that were loaded whole but unchecked.
    private let verify: @Sendable (BlobUse) -> Void

    init(
        directory: CacheDirectory, index: LocalIndex, chunkSize: UInt64,
        verify: @escaping @Sendable (BlobUse) -> Void
    ) {
        self.verify = verify
        self.directory = directory
        self.index = index
        self.chunkSize = chunkSize
    }

    func use(_ id: BlobID, size: UInt64) -> BlobUse {
        if let blob = retain(id) { return BlobUse(blob, self) }
        // Loading opens files: not under the lock. Two that load the same keep one.
        let loaded = Blob(
            id, size: size, chunkSize: chunkSize, directory: directory, isKnownMissing: index.isKnownMissing(id))
        let (blob, isNew) = active.withLock { active in
            let blob = active[id]?.blob ?? loaded
            active[id] = (blob, (active[id]?.uses ?? 0) + 1)
            return (blob, blob === loaded)
        }
        let use = BlobUse(blob, self)
        if isNew, blob.isFullUnchecked { verify(use) }
        return use
    }

    /// The blob if somebody uses it.
    func useIfActive(_ id: BlobID) -> BlobUse? { retain(id).map { BlobUse($0, self) } }

    private func retain(_ id: BlobID) -> Blob? {
        active.withLock { active in
            guard let entry = active[id] else { return nil }
            active[id] = (entry.blob, entry.uses + 1)
            return entry.blob
        }
    }

    fileprivate func release(_ blob: Blob) {
        // The last reference to the blob must go outside of the lock: it closes files.
        withExtendedLifetime(blob) {
            active.withLock { active in
                guard let entry = active[blob.id] else { return }
                active[blob.id] = entry.uses > 1 ? (entry.blob, entry.uses - 1) : nil
            }
        }
    }

    func isActive(_ id: BlobID) -> Bool { active.withLock { $0[id] != nil } }

    var all: [BlobUse] {
        let blobs = active.withLock { active in
            for (id, entry) in active { active[id] = (entry.blob, entry.uses + 1) }
            return active.values.map(\.blob)
        }
        return blobs.map { BlobUse($0, self) }
    }
}

/// Keeps a blob in the table.
final class BlobUse: Sendable {
    let blob: Blob
    private let table: BlobTable

    fileprivate init(_ blob: Blob, _ table: BlobTable) {
        self.blob = blob
        self.table = table
    }

    deinit { table.release(blob) }
}
