import Glibc
import MCFSCore
import Synchronization

/// Hears of what a content cannot mend by itself.
protocol BlobObserver: AnyObject, Sendable {
    /// Reads wait for chunks that nobody fetches: after an eviction or a wrong digest.
    func wantsChunks(_ key: ContentKey)
    /// Bytes that came had a wrong digest. `error` nil: nobody has seen one, and they are fetched once more; else what `reads`
    /// get. `wasServed`: whoever cached them must drop them.
    func foundCorrupt(_ key: ContentKey, _ error: MCFSError?, _ reads: [PendingRead], wasServed: Bool)
    /// The disk failed.
    func couldNotKeep(_ key: ContentKey, _ error: MCFSError)
}

/// What all contents of a cache share.
final class BlobContext: Sendable {
    let directory: CacheDirectory
    let space: Space
    let dirty: DirtyContents
    let hashing: WorkQueue
    /// Whole contents that another mount left and nobody has looked at yet.
    private let unproven: Lock<Set<BlobID>>
    /// Contents of which bytes went out before anybody could check them, and what became of these.
    private let unchecked = Lock<[ContentKey: Unchecked]>([:])
    private enum Unchecked {
        /// They are in the file, and will be checked with it.
        case inFile
        /// They are gone: no digest will say what they were.
        case lost
    }
    private struct Weak: Sendable {
        weak var observer: (any BlobObserver)?
        weak var table: BlobTable?
    }
    private let weak = Lock(Weak())

    init(
        _ directory: CacheDirectory, _ space: Space, _ dirty: DirtyContents, hashing: WorkQueue, unproven: Set<BlobID>
    ) {
        self.directory = directory
        self.space = space
        self.dirty = dirty
        self.unproven = Lock(unproven)
        self.hashing = hashing
    }

    // The cache owns both, and this.
    var observer: (any BlobObserver)? { weak.withLock { $0.observer } }
    var table: BlobTable? { weak.withLock { $0.table } }

    func set(observer: any BlobObserver, table: BlobTable) {
        weak.withLock { weak in
            weak.observer = observer
            weak.table = table
        }
    }

    // MARK: What was given out unchecked

    /// Bytes of the file go out. Under the blob's lock.
    func givesOut(_ key: ContentKey) { unchecked.withLock { if $0[key] == nil { $0[key] = .inFile } } }

    /// Bytes went out that no file has, or that another file takes the place of.
    func losesUnchecked(_ key: ContentKey, always: Bool = false) {
        unchecked.withLock { if always || $0[key] != nil { $0[key] = .lost } }
    }

    /// What is in the file is right.
    func isChecked(_ key: ContentKey) { unchecked.withLock { if case .inFile = $0[key] { $0[key] = nil } } }

    /// They are wrong. - Returns: whether there are any.
    func areWrong(_ key: ContentKey) -> Bool {
        unchecked.withLock { unchecked in
            // Who kept them is told to drop them, but may be asked for them before that is done.
            if unchecked[key] != nil { unchecked[key] = .lost }
            return unchecked[key] != nil
        }
    }

    /// Whether somebody may have kept bytes of it that nobody will check.
    func hasLostUnchecked(_ key: ContentKey) -> Bool {
        unchecked.withLock { unchecked in
            if unchecked.isEmpty { return false }
            if case .lost = unchecked[key] { return true }
            return false
        }
    }

    // MARK: What is on disk

    enum Found {
        /// Checked.
        case whole(StoredFile)
        case partial(StoredFile, MapFile.Found)
        case doubtful(Blob.Doubt)

        var map: MapFile.Found? { if case .partial(_, let map) = self { map } else { nil } }
    }

    /// What there is of a content. Changes nothing: another thread may have been faster, and be writing.
    ///
    /// - Parameter litter: gets files that cannot be what they should.
    /// - Throws: where that cannot be told: no descriptor is left, the disk fails.
    func find(_ key: ContentKey, _ litter: inout [String]) throws(Errno) -> Found? {
        for name in [CacheDirectory.blob(key.id), directory.fresh(key.id)] {
            guard let (file, size) = try directory.openOurs(name, O_RDONLY) else { continue }
            if size == key.size { return .whole(StoredFile(file, space: space)) }
            // Cut off, or the content itself while the one asked for does not exist: its digest tells.
            if let doubt = doubt(key.id, file, name, size) { return .doubtful(doubt) }
            litter.append(name)
        }
        if isUnproven(key.id) {
            let name = CacheDirectory.unproven(key.id)
            if let (file, size) = try directory.openOurs(name, O_RDONLY), size == key.size,
                let doubt = doubt(key.id, file, name, size)
            {
                return .doubtful(doubt)
            }
        }
        if let map = try MapFile.open(key, in: directory) {
            let hashing = StoredFile.Hashing(key.id, size: key.size, from: map.hash)
            return .partial(StoredFile(map.content, space: space, hashing: hashing), map)
        }
        return nil
    }

    private func doubt(_ id: BlobID, _ file: OwnedDescriptor, _ name: String, _ size: UInt64) -> Blob.Doubt? {
        StoredFile.Hashing(id, size: size).map {
            Blob.Doubt(file: StoredFile(file, space: space, hashing: $0), name: name, size: size)
        }
    }

    /// Removes every file of a content.
    func remove(_ key: ContentKey) {
        // The map first: a map without its file is nothing, a file of holes with an old map would be wrong.
        directory.remove(CacheDirectory.map(key))
        directory.remove(CacheDirectory.partial(key))
        // The names of whole contents have no size: one of another size is another content.
        removeWhole(directory.fresh(key.id), size: key.size)
        removeWhole(CacheDirectory.blob(key.id), size: key.size)
        if isUnproven(key.id),
            directory.status(CacheDirectory.unproven(key.id)).map({ UInt64($0.st_size) == key.size }) ?? false
        {
            removeUnproven(key.id)
        }
    }

    /// Removes a file that holds a whole content of this size.
    func removeWhole(_ name: String, size: UInt64) {
        if let status = directory.status(name), UInt64(status.st_size) == size { directory.remove(name) }
    }

    func isUnproven(_ id: BlobID) -> Bool { unproven.withLock { !$0.isEmpty && $0.contains(id) } }

    func removeUnproven(_ id: BlobID) {
        if unproven.withLock({ $0.remove(id) }) != nil { directory.remove(CacheDirectory.unproven(id)) }
    }
}
