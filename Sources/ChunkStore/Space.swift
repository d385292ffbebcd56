import Glibc
import MCFSCore
import Synchronization

/// The space that the cache takes on its disk, and who gives up theirs first.
///
/// What is taken is the sum of what is there (`set`, called by a content's writer alone), of what was promised to fetches and
/// members under way (`reserve`), and of files that lost their name and are still open. It never exceeds `bytesMax`: nobody
/// writes without a reservation. Contents are in the order of their last use, in a list, so that nothing is ever sorted; pinned
/// ones in another, which the evictor does not walk.
///
/// Until the folders are scanned, in the background, only what was used since the start is known; who reserves waits for that.
final class Space: Sendable {
    fileprivate struct Record {
        let key: ContentKey
        /// Bytes that are there.
        var bytes: UInt64
        var diskBytes: UInt64
        /// When the disk was last told of a use, in seconds since 1970.
        var told: Int64
        var isPinned = false
        /// Neighbours in the order of use; -1: none.
        var before: Int32 = -1
        var after: Int32 = -1
    }

    /// Records in the order of their use.
    fileprivate struct Order {
        /// Used longest ago, and last; -1: none.
        var oldest: Int32 = -1
        var newest: Int32 = -1
        var count = 0
    }

    fileprivate struct State {
        var records: [Record] = []
        var free: [Int32] = []
        var slots: [BlobID: Int32] = [:]
        /// Of contents that share their identity with one of another size.
        var others: [ContentKey: Int32] = [:]
        /// Of what may be evicted, and of what is pinned.
        var order = Order()
        var pinnedOrder = Order()
        /// What is pinned, there or not.
        var pins: Set<ContentKey> = []
        /// Bytes of the pinned ones that are there.
        var pinnedBytes: UInt64 = 0

        /// Bytes on disk of all records.
        var used: UInt64 = 0
        var reserved: UInt64 = 0
        var lingering: UInt64 = 0

        /// What became of contents while the folders are being scanned; nil once they are.
        var changedWhileScanning: Set<ContentKey>? = []
        /// Nothing more could be evicted, and nothing has changed since.
        var isExhausted = false
        /// Bytes that those want who wait for room.
        var wanted: [UInt64] = []
        var hasEnded = false

        var taken: UInt64 { used + reserved + lingering }

        /// Whether one of those who wait should look again.
        func mayGrant(below bytesMax: UInt64) -> Bool {
            !wanted.isEmpty && (isExhausted || wanted.contains { taken + $0 <= bytesMax })
        }
    }

    /// Between two times that the disk is told of the use of a content, in seconds.
    private static let toldInterval: Int64 = 60
    /// Room that an eviction makes beyond what was asked, as a part of the bound: a low-water mark.
    private static let slackDivisor: UInt64 = 50
    /// Where less room than this part of the bound is left, the evictor makes some before anybody waits for it. Not in caches where
    /// that would be less than a chunk.
    private static let headroomDivisor: UInt64 = 100
    private static let headroomMin: UInt64 = 1 << 20

    let bytesMax: UInt64
    private let state = Guarded(State())
    /// What the evictor is wanted for. Taken under the state's lock, never the other way round.
    private let demand = Guarded(Demand())
    private let headroom: UInt64

    private struct Demand {
        /// The largest reservation that waits, in bytes.
        var bytes: UInt64 = 0
        /// Little room is left.
        var isLow = false
        var hasEnded = false
    }

    init(bytesMax: UInt64) {
        self.bytesMax = bytesMax
        let part = bytesMax / Self.headroomDivisor
        headroom = part < Self.headroomMin ? 0 : part
    }

    /// What `bytes` in a file of their own occupy.
    static func diskBytes(_ bytes: UInt64) -> UInt64 { (bytes + 4095) & ~4095 }

    /// Changes the state, and wakes who waits for room.
    private func update<Result>(_ body: (inout State) -> Result) -> Result {
        let (result, mayGrant) = state.withLock { state in
            let result = body(&state)
            return (result, state.mayGrant(below: bytesMax))
        }
        if mayGrant { state.update { _ in } }
        return result
    }
}

// MARK: - What is there

extension Space {
    /// Says what is there of a content now. Called by its writer alone. Counts as a use.
    ///
    /// - Parameters:
    ///   - bytes: 0: nothing; it is forgotten.
    ///   - diskBytes: what its files take.
    ///   - room: what it grew by was promised there.
    func set(_ key: ContentKey, bytes: UInt64, diskBytes: UInt64, from room: Reservation? = nil) {
        update { state in
            state.changedWhileScanning?.insert(key)
            let before = state.slot(of: key).map { state.records[Int($0)].diskBytes } ?? 0
            // At once, so that nothing counts twice.
            if diskBytes > before, let part = room?.take(diskBytes - before) { state.reserved -= part }
            if bytes == 0 {
                state.remove(key)
            } else {
                state.put(key, bytes: bytes, diskBytes: diskBytes, told: Int64(time(nil)))
            }
            state.isExhausted = false
        }
    }

    /// - Returns: whether the disk should hear of this use.
    func touch(_ key: ContentKey) -> Bool {
        state.withLock { state in
            guard let slot = state.slot(of: key) else { return false }
            state.makeNewest(slot)
            let now = Int64(time(nil))
            guard now - state.records[Int(slot)].told >= Self.toldInterval else { return false }
            state.records[Int(slot)].told = now
            return true
        }
    }

    /// Bytes of a content that are there; nil where that is not known yet.
    func localBytes(_ key: ContentKey) -> UInt64? {
        state.withLock { state in
            if let slot = state.slot(of: key) { return state.records[Int(slot)].bytes }
            guard let changed = state.changedWhileScanning else { return 0 }
            return changed.contains(key) ? 0 : nil
        }
    }

    /// Whether nothing is known of a content, nor of one of another size with the same identity.
    func isKnownMissing(_ key: ContentKey) -> Bool {
        state.withLock { $0.changedWhileScanning == nil && $0.slots[key.id] == nil }
    }

    /// All contents, and how many bytes of each are there. Waits for the scan.
    var contents: [(key: ContentKey, bytes: UInt64)] {
        waitUntilScanned()
        return state.withLock { $0.inOrder.map { ($0.key, $0.bytes) } }
    }

    var isScanned: Bool { state.withLock { $0.changedWhileScanning == nil } }

    /// - Returns: whether it came before the deadline.
    @discardableResult
    func waitUntilScanned(_ deadline: Deadline? = nil) -> Bool {
        state.wait(until: deadline) { $0.changedWhileScanning == nil || $0.hasEnded ? true : nil } ?? false
    }

    /// What the files were found to be, in any order; what was used since then is known better.
    func scanned(_ found: [CacheStart.File]) {
        // A million of them take a while: not under the lock.
        var scanned = State()
        scanned.records.reserveCapacity(found.count)
        scanned.slots.reserveCapacity(found.count)
        for file in found.sorted(by: { $0.used < $1.used }) {
            scanned.put(file.key, bytes: file.local, diskBytes: file.onDisk, told: file.used)
        }
        // What stood in the place of the new state goes outside of the lock, too.
        var replaced = State()
        state.update { state in
            for key in state.changedWhileScanning ?? [] { scanned.remove(key) }
            scanned.setPins(state.pins)
            for record in state.inOrder {
                scanned.put(record.key, bytes: record.bytes, diskBytes: record.diskBytes, told: record.told)
            }
            scanned.reserved = state.reserved
            scanned.lingering = state.lingering
            scanned.wanted = state.wanted
            scanned.hasEnded = state.hasEnded
            scanned.changedWhileScanning = nil
            swap(&state, &scanned)
            swap(&replaced, &scanned)
        }
        // The bound may be smaller than that of an earlier start.
        if isAbove(bytesMax) { demand.update { $0.bytes = max($0.bytes, 1) } }
    }
}

// MARK: - Room

extension Space {
    /// Bytes on disk of what is there and known.
    var used: UInt64 { state.withLock { $0.used } }

    /// The same, with what was promised and what is unlinked and open.
    var taken: UInt64 { state.withLock { $0.taken } }

    /// Waits until there is room.
    ///
    /// - Returns: nil where there is none: everything else is pinned or in use, or the deadline came first.
    func reserve(_ bytes: UInt64, until deadline: Deadline) -> Reservation? {
        if bytes > bytesMax { return nil }
        let grant = { [self] (state: inout State) -> Bool? in
            if state.hasEnded { return false }
            // What another start left counts too.
            guard state.changedWhileScanning == nil else { return nil }
            if state.taken + bytes <= bytesMax {
                state.reserved += bytes
                if state.taken + headroom > bytesMax { demand.update { $0.isLow = true } }
                return true
            }
            if state.isExhausted { return false }
            demand.update { $0.bytes = max($0.bytes, bytes) }
            return nil
        }
        var isGranted = state.withLock { state in
            let isGranted = grant(&state)
            if isGranted == nil { state.wanted.append(bytes) }
            return isGranted
        }
        if isGranted == nil {
            isGranted = state.wait(until: deadline, grant)
            state.withLock { state in
                if let index = state.wanted.firstIndex(of: bytes) { state.wanted.remove(at: index) }
            }
        }
        return isGranted == true ? Reservation(bytes) { [self] in giveBack($0) } : nil
    }

    private func giveBack(_ bytes: UInt64) {
        update { state in
            state.reserved -= bytes
            state.isExhausted = false
        }
    }

    func beganLingering(_ bytes: UInt64) { state.withLock { $0.lingering += bytes } }

    func endedLingering(_ bytes: UInt64) {
        update { state in
            state.lingering -= bytes
            state.isExhausted = false
        }
    }

    /// Something may be evicted now that could not be before.
    func mayHaveRoom() {
        if state.withLock({ $0.isExhausted }) { update { $0.isExhausted = false } }
    }

    // MARK: For the evictor

    /// Waits until room is needed.
    ///
    /// - Returns: down to how many bytes to evict, and whether somebody waits for that; nil at the end.
    func waitForDemand() -> (bytes: UInt64, isAwaited: Bool)? {
        demand.wait { [bytesMax] demand -> (bytes: UInt64, isAwaited: Bool)?? in
            if demand.hasEnded { return .some(nil) }
            guard demand.bytes > 0 || demand.isLow else { return nil }
            let (needed, isAwaited) = (demand.bytes + bytesMax / Self.slackDivisor, demand.bytes > 0)
            demand = Demand()
            return (bytesMax > needed ? bytesMax - needed : 0, isAwaited)
        } ?? nil
    }

    func isAbove(_ bytes: UInt64) -> Bool { state.withLock { $0.taken > bytes } }

    /// All that could be evicted was: who still waits for room gets none until something changes.
    func evictedAllThereIs() {
        update { $0.isExhausted = true }
    }

    /// Contents that are there and not pinned.
    var evictableCount: Int { state.withLock { $0.order.count } }

    /// Those of them that were used longest ago.
    func oldest(_ count: Int) -> [ContentKey] {
        state.withLock { state in
            var keys: [ContentKey] = []
            var slot = state.order.oldest
            while slot >= 0, keys.count < count {
                keys.append(state.records[Int(slot)].key)
                slot = state.records[Int(slot)].after
            }
            return keys
        }
    }

    /// What is in use is used now: the next to go is another.
    func isInUse(_ key: ContentKey) {
        state.withLock { state in
            if let slot = state.slot(of: key) { state.makeNewest(slot) }
        }
    }

    // MARK: Pins

    func setPinned(_ keys: Set<ContentKey>) {
        update { state in
            state.setPins(keys)
            state.isExhausted = false
        }
    }

    var pinnedBytes: UInt64 { state.withLock { $0.pinnedBytes } }

    /// Lets go of all who wait.
    func end() {
        state.update { $0.hasEnded = true }
        demand.update { $0.hasEnded = true }
    }
}

// MARK: - Records

extension Space.State {
    fileprivate func slot(of key: ContentKey) -> Int32? {
        guard let slot = slots[key.id] else { return nil }
        return records[Int(slot)].key == key ? slot : others[key]
    }

    /// As the newest.
    fileprivate mutating func put(_ key: ContentKey, bytes: UInt64, diskBytes: UInt64, told: Int64) {
        if let slot = slot(of: key) {
            unlink(slot)
            records[Int(slot)].bytes = bytes
            records[Int(slot)].diskBytes = diskBytes
            return append(slot)
        }
        let record = Space.Record(
            key: key, bytes: bytes, diskBytes: diskBytes, told: told, isPinned: !pins.isEmpty && pins.contains(key))
        let slot: Int32
        if let reused = free.popLast() {
            slot = reused
            records[Int(slot)] = record
        } else {
            slot = Int32(records.count)
            records.append(record)
        }
        if slots[key.id] == nil { slots[key.id] = slot } else { others[key] = slot }
        append(slot)
    }

    fileprivate mutating func remove(_ key: ContentKey) {
        guard let slot = slot(of: key) else { return }
        unlink(slot)
        free.append(slot)
        if others.removeValue(forKey: key) != nil { return }
        slots[key.id] = nil
        if others.isEmpty { return }
        if let other = others.first(where: { $0.key.id == key.id }) {
            slots[key.id] = other.value
            others[other.key] = nil
        }
    }

    fileprivate mutating func makeNewest(_ slot: Int32) {
        if records[Int(slot)].after < 0 { return }
        unlink(slot)
        append(slot)
    }

    fileprivate mutating func setPins(_ keys: Set<ContentKey>) {
        for key in pins.symmetricDifference(keys) {
            guard let slot = slot(of: key) else { continue }
            unlink(slot)
            records[Int(slot)].isPinned.toggle()
            append(slot)
        }
        pins = keys
    }

    /// The order that a record is in.
    private subscript(isPinned isPinned: Bool) -> Space.Order {
        get { isPinned ? pinnedOrder : order }
        set { if isPinned { pinnedOrder = newValue } else { order = newValue } }
    }

    /// Takes a record out of its order and of the sums.
    private mutating func unlink(_ slot: Int32) {
        let record = records[Int(slot)]
        if record.before >= 0 {
            records[Int(record.before)].after = record.after
        } else {
            self[isPinned: record.isPinned].oldest = record.after
        }
        if record.after >= 0 {
            records[Int(record.after)].before = record.before
        } else {
            self[isPinned: record.isPinned].newest = record.before
        }
        self[isPinned: record.isPinned].count -= 1
        used -= record.diskBytes
        if record.isPinned { pinnedBytes -= record.bytes }
    }

    /// Puts a record into its order, as the newest, and into the sums.
    private mutating func append(_ slot: Int32) {
        let record = records[Int(slot)]
        let newest = self[isPinned: record.isPinned].newest
        records[Int(slot)].before = newest
        records[Int(slot)].after = -1
        if newest >= 0 {
            records[Int(newest)].after = slot
        } else {
            self[isPinned: record.isPinned].oldest = slot
        }
        self[isPinned: record.isPinned].newest = slot
        self[isPinned: record.isPinned].count += 1
        used += record.diskBytes
        if record.isPinned { pinnedBytes += record.bytes }
    }

    fileprivate var inOrder: [Space.Record] {
        var result: [Space.Record] = []
        for order in [order, pinnedOrder] {
            var slot = order.oldest
            while slot >= 0 {
                result.append(records[Int(slot)])
                slot = records[Int(slot)].after
            }
        }
        return result
    }
}
