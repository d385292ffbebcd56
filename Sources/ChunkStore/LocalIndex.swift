import Glibc
import MCFSCore

/// What is local, in memory: how many bytes of which content, and when it was last used. The files are the truth; this is
/// read from them at start, on a thread of its own, and kept up to date. Whoever asks earlier waits.
final class LocalIndex: Sendable {
    struct Record {
        /// Bytes that are there.
        var bytes: UInt64
        /// Nanoseconds since 1970.
        var lastUsed: Int64
    }

    struct State {
        var records: [BlobID: Record] = [:]
        /// Bytes of all records, each chunk rounded up to whole disk blocks.
        var used: UInt64 = 0
        var pinned: Set<BlobID> = []
        var isScanned = false
    }

    private let state = Guarded(State())

    /// What `bytes` of one content occupy at least.
    static func diskBytes(_ bytes: UInt64) -> UInt64 { (bytes + 4095) & ~4095 }

    static func nanoseconds(_ time: timespec) -> Int64 { Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec) }

    /// Nanoseconds since 1970.
    static var now: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return nanoseconds(time)
    }

    private func scanned<Result>(_ body: (inout State) -> Result) -> Result {
        // `body` runs once: when the scan is done, waiting returns at once.
        guard let result = state.wait({ state in state.isScanned ? body(&state) : nil }) else {
            preconditionFailure("a wait without a deadline ended without a result")
        }
        return result
    }

    var isScanned: Bool { state.withLock { $0.isScanned } }

    /// Reads the folders. Removes what no daemon can have meant to leave.
    func scan(_ directory: CacheDirectory, _ syncPoint: SyncPoint) {
        var found: [BlobID: Record] = [:]
        for shard in 0..<256 {
            let folder = [UInt8(shard)].hex
            directory.forEachFile(in: "blobs/\(folder)") { name, status in
                guard let id = BlobID(name), syncPoint.believes(modified: Int64(status.st_mtim.tv_sec)) else {
                    directory.remove("blobs/\(folder)/\(name)")
                    return
                }
                found[id] = Record(bytes: UInt64(status.st_size), lastUsed: Self.nanoseconds(status.st_atim))
            }
            directory.forEachFile(in: "partial/\(folder)") { name, status in
                if name.hasSuffix(".map") { return }
                guard let id = BlobID(name), found[id] == nil,
                    let present = Self.judge(id, modified: status, directory, syncPoint)
                else {
                    directory.remove("partial/\(folder)/\(name).map")
                    directory.remove("partial/\(folder)/\(name)")
                    return
                }
                found[id] = Record(
                    bytes: min(UInt64(present.chunks.population) * present.grid.chunkSize, present.grid.size),
                    lastUsed: Self.nanoseconds(status.st_atim))
            }
        }
        state.update { state in
            state.records = found
            state.used = found.values.reduce(0) { $0 + Self.diskBytes($1.bytes) }
            state.isScanned = true
        }
    }

    /// What of a partial content is believed; the map says the same afterwards. nil: nothing.
    private static func judge(
        _ id: BlobID, modified status: stat, _ directory: CacheDirectory, _ syncPoint: SyncPoint
    ) -> (grid: ChunkGrid, chunks: Bitmap)? {
        let name = CacheDirectory.map(id)
        guard let grid = MapFile.grid(of: name, in: directory) else { return nil }
        let map = directory.status(name)
        let believesAll =
            syncPoint.believes(modified: Int64(status.st_mtim.tv_sec))
            && map.map { syncPoint.believes(modified: Int64($0.st_mtim.tv_sec)) } ?? false
        guard let (file, present) = MapFile.open(name, in: directory, grid: grid, durableOnly: !believesAll) else {
            return nil
        }
        if !believesAll, (try? file.replace(present)) == nil { return nil }
        return present.population > 0 ? (grid, present) : nil
    }

    func isKnownMissing(_ id: BlobID) -> Bool { state.withLock { $0.isScanned && $0.records[id] == nil } }

    func localBytes(_ id: BlobID) -> UInt64 { scanned { $0.records[id]?.bytes ?? 0 } }

    var used: UInt64 { scanned { $0.used } }

    var pinnedBytes: UInt64 { scanned { state in state.pinned.reduce(0) { $0 + (state.records[$1]?.bytes ?? 0) } } }

    func setPinned(_ ids: Set<BlobID>) { state.withLock { $0.pinned = ids } }

    func isPinned(_ id: BlobID) -> Bool { state.withLock { $0.pinned.contains(id) } }

    /// Reserves `bytes` more of a content if the sum stays within `bytesMax`.
    func reserve(_ id: BlobID, _ bytes: UInt64, bytesMax: UInt64) -> Bool {
        let now = Self.now
        return scanned { state in
            let old = state.records[id]
            let grown = (old?.bytes ?? 0) + bytes
            let added = Self.diskBytes(grown) - Self.diskBytes(old?.bytes ?? 0)
            guard state.used + added <= bytesMax else { return false }
            state.used += added
            state.records[id] = Record(bytes: grown, lastUsed: now)
            return true
        }
    }

    /// Gives back what was reserved and not written.
    func unreserve(_ id: BlobID, _ bytes: UInt64) {
        scanned { state in
            guard let old = state.records[id] else { return }
            let left = old.bytes - min(bytes, old.bytes)
            state.used -= Self.diskBytes(old.bytes) - Self.diskBytes(left)
            state.records[id] = left == 0 ? nil : Record(bytes: left, lastUsed: old.lastUsed)
        }
    }

    /// - Returns: bytes that are no longer counted.
    func remove(_ id: BlobID) -> UInt64 {
        scanned { state in
            guard let old = state.records.removeValue(forKey: id) else { return 0 }
            state.used -= Self.diskBytes(old.bytes)
            return old.bytes
        }
    }

    /// - Returns: whether the last use was long enough ago that the disk should hear of it.
    func touch(_ id: BlobID) -> Bool {
        let now = Self.now
        return state.withLock { state in
            guard let old = state.records[id] else { return false }
            state.records[id]?.lastUsed = now
            return now - old.lastUsed >= 60_000_000_000
        }
    }

    /// What may be evicted, least recently used first.
    func evictable() -> [(id: BlobID, record: Record)] {
        scanned { state in
            state.records.filter { !state.pinned.contains($0.key) }.map { ($0.key, $0.value) }
        }.sorted { ($0.record.lastUsed, $0.id.description) < ($1.record.lastUsed, $1.id.description) }
    }

    var ids: [BlobID] { scanned { Array($0.records.keys) } }
}
