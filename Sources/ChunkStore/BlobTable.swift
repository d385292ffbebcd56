import Synchronization
import MCFSCore

/// The contents that somebody uses now: one `Blob` for each, shared, gone with its last `BlobUse`.
final class BlobTable: Sendable {
    private struct State {
        var entries: [ContentKey: (blob: Blob, uses: Int)] = [:]
        /// Rises when a content leaves the table: what was read of its files before that may be of the past. One for many
        /// contents, so that others that come and go seldom count.
        var departures = [UInt64](repeating: 0, count: 256)
    }

    private static func row(_ key: ContentKey) -> Int { Int(UInt(bitPattern: key.hashValue) % 256) }

    private let state = Lock(State())
    private let context: BlobContext
    private let chunkSize: UInt64

    init(_ context: BlobContext, chunkSize: UInt64) {
        self.context = context
        self.chunkSize = chunkSize
    }

    /// - Parameter isLost: what is there of it goes now: where it is not in use, it is not looked at.
    func use(_ key: ContentKey, isLost: Bool = false) -> BlobUse {
        while true {
            let (known, departures) = state.withLock { (Self.retain(key, &$0), $0.departures[Self.row(key)]) }
            if let known { return BlobUse(known, self) }
            // Loading opens files: not under the lock. Two that load the same keep one.
            let loaded = Blob(
                key, chunkSize: chunkSize, context, isKnownMissing: isLost || context.space.isKnownMissing(key))
            let (blob, isNew) = state.withLock { state -> (Blob?, Bool) in
                if let blob = Self.retain(key, &state) { return (blob, false) }
                guard state.departures[Self.row(key)] == departures else { return (nil, false) }
                state.entries[key] = (loaded, 1)
                return (loaded, true)
            }
            guard let blob else { continue }
            let use = BlobUse(blob, self)
            if isNew, !isLost { blob.wasLoaded() }
            return use
        }
    }

    /// The content if somebody uses it.
    func useIfActive(_ key: ContentKey) -> BlobUse? {
        state.withLock { Self.retain(key, &$0) }.map { BlobUse($0, self) }
    }

    /// Keeps a content in the table that is in it.
    func hold(_ blob: Blob) -> BlobUse? {
        let isHeld = state.withLock { state in
            state.entries[blob.key]?.blob === blob && Self.retain(blob.key, &state) != nil
        }
        return isHeld ? BlobUse(blob, self) : nil
    }

    func isActive(_ key: ContentKey) -> Bool { state.withLock { $0.entries[key] != nil } }

    var activeCount: Int { state.withLock { $0.entries.count } }

    private static func retain(_ key: ContentKey, _ state: inout State) -> Blob? {
        state.entries[key]?.uses += 1
        return state.entries[key]?.blob
    }

    fileprivate func release(_ blob: Blob) {
        // The last reference to a content must go outside of the lock: it closes files.
        let isGone = withExtendedLifetime(blob) {
            state.withLock { state in
                guard let entry = state.entries[blob.key] else { return false }
                state.entries[blob.key] = entry.uses > 1 ? (entry.blob, entry.uses - 1) : nil
                if entry.uses == 1 { state.departures[Self.row(blob.key)] += 1 }
                return entry.uses == 1
            }
        }
        // What nobody uses may be evicted.
        if isGone { context.space.mayHaveRoom() }
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
