import Synchronization
import MCFSCore

/// The contents that somebody uses now, and those used last: one `Blob` for each, shared. Keeping closed ones for a while makes
/// opening them again cost no system call.
final class BlobTable: Sendable {
    private struct Entry {
        let blob: Blob
        var uses: Int
        /// When it was put down last; of `State.clock`.
        var putDown: UInt64 = 0
    }

    private struct State {
        var entries: [ContentKey: Entry] = [:]
        var clock: UInt64 = 0
        /// In the order in which they were put down; some have been taken up again.
        var idle: [(key: ContentKey, putDown: UInt64)] = []
        /// Rows of `idle` before this one are done with.
        var idleHead = 0
        var idleCount = 0
        /// Rises when a content leaves the table: what was read of the disk before that may be of the past.
        var departures: UInt64 = 0
    }

    private let state = Lock(State())
    private let context: BlobContext
    private let chunkSize: UInt64
    private let idleMax: Int

    /// - Parameter idleMax: contents that are kept open while nobody uses them.
    init(_ context: BlobContext, chunkSize: UInt64, idleMax: Int) {
        self.context = context
        self.chunkSize = chunkSize
        self.idleMax = idleMax
    }

    func use(_ key: ContentKey) -> BlobUse {
        while true {
            if let blob = retain(key) { return BlobUse(blob, self) }
            // Loading opens files: not under the lock. Two that load the same keep one.
            let departures = state.withLock { $0.departures }
            let loaded = Blob(
                key, chunkSize: chunkSize, context, isKnownMissing: context.space.isKnownMissing(key))
            let (blob, isNew) = state.withLock { state -> (Blob?, Bool) in
                if let blob = Self.retain(key, &state) { return (blob, false) }
                guard state.departures == departures else { return (nil, false) }
                state.entries[key] = Entry(blob: loaded, uses: 1)
                return (loaded, true)
            }
            guard let blob else { continue }
            if isNew { blob.wasLoaded() }
            return BlobUse(blob, self)
        }
    }

    /// The content if somebody uses it.
    func useIfActive(_ key: ContentKey) -> BlobUse? {
        let blob = state.withLock { state in
            state.entries[key].map { $0.uses > 0 } == true ? Self.retain(key, &state) : nil
        }
        return blob.map { BlobUse($0, self) }
    }

    /// Keeps a content in the table that is in it.
    func hold(_ blob: Blob) -> BlobUse? {
        let isHeld = state.withLock { state in
            state.entries[blob.key]?.blob === blob && Self.retain(blob.key, &state) != nil
        }
        return isHeld ? BlobUse(blob, self) : nil
    }

    func isActive(_ key: ContentKey) -> Bool { state.withLock { $0.entries[key].map { $0.uses > 0 } ?? false } }

    var activeCount: Int { state.withLock { $0.entries.count - $0.idleCount } }

    private func retain(_ key: ContentKey) -> Blob? { state.withLock { Self.retain(key, &$0) } }

    private static func retain(_ key: ContentKey, _ state: inout State) -> Blob? {
        guard let entry = state.entries[key] else { return nil }
        if entry.uses == 0 { state.idleCount -= 1 }
        state.entries[key]?.uses = entry.uses + 1
        return entry.blob
    }

    fileprivate func release(_ blob: Blob) {
        // The last reference to a content must go outside of the lock: it closes files.
        let gone = state.withLock { state -> [Blob]? in
            guard let uses = state.entries[blob.key]?.uses else { return nil }
            state.entries[blob.key]?.uses = uses - 1
            if uses > 1 { return nil }
            state.clock += 1
            state.entries[blob.key]?.putDown = state.clock
            state.idle.append((blob.key, state.clock))
            state.idleCount += 1
            return Self.trim(&state, to: idleMax)
        }
        withExtendedLifetime(gone) {}
        // What nobody uses may be evicted.
        if gone != nil { context.space.mayHaveRoom() }
    }

    /// Takes out those that were put down longest ago.
    private static func trim(_ state: inout State, to count: Int) -> [Blob] {
        var gone: [Blob] = []
        while state.idleCount > count, state.idleHead < state.idle.count {
            let (key, putDown) = state.idle[state.idleHead]
            state.idleHead += 1
            guard let entry = state.entries[key], entry.uses == 0, entry.putDown == putDown else { continue }
            state.entries[key] = nil
            state.idleCount -= 1
            state.departures += 1
            gone.append(entry.blob)
        }
        // Contents that are opened over and over leave old rows.
        if state.idle.count > 4 * count + 64 {
            state.idle = state.idle[state.idleHead...].filter { row in
                state.entries[row.key].map { $0.uses == 0 && $0.putDown == row.putDown } ?? false
            }
            state.idleHead = 0
        }
        return gone
    }
}

/// Keeps a content in the table.
final class BlobUse: Sendable {
    let blob: Blob
    private let table: BlobTable

    fileprivate init(_ blob: Blob, _ table: BlobTable) {
        self.blob = blob
        self.table = table
    }

    deinit { table.release(blob) }
}
