import MCFSCore

/// Makes room where the bound is reached, on a thread of its own: contents that nobody uses, used longest ago first; then
/// ones that are open and not complete, whose readers fetch again what they need.
struct Evictor: Sendable {
    private static let batchCount = 256

    let space: Space
    let table: BlobTable

    /// Runs until the space ends.
    func run() {
        while let (bytes, isAwaited) = space.waitForDemand() {
            evict(downTo: bytes, evenOpen: isAwaited)
            if isAwaited, space.isAbove(bytes) { space.evictedAllThereIs() }
        }
    }

    /// Evicts until at most `bytes` are taken, if that can be. - Returns: bytes freed.
    @discardableResult
    func evict(downTo bytes: UInt64, evenOpen: Bool = true) -> UInt64 {
        var freed: UInt64 = 0
        var inUse: [ContentKey] = []
        // Once around.
        var left = space.evictableCount
        while left > 0, space.isAbove(bytes) {
            let keys = space.oldest(min(left, Self.batchCount))
            if keys.isEmpty { break }
            left -= keys.count
            for key in keys where space.isAbove(bytes) {
                let gone = table.isActive(key) ? 0 : evict(key)
                freed += gone
                if gone == 0 {
                    space.isInUse(key)
                    inUse.append(key)
                }
            }
        }
        for key in inUse where evenOpen && space.isAbove(bytes) && mayLose(key) { freed += evict(key) }
        return freed
    }

    /// Whether a content that is open may be fetched again. Who reads much in a small cache must not lose it to who reads little.
    private func mayLose(_ key: ContentKey) -> Bool {
        guard let use = table.useIfActive(key), !use.blob.isComplete else { return false }
        return table.activeCount > 1 || space.localBytes(key) ?? 0 >= space.bytesMax / 2
    }

    private func evict(_ key: ContentKey) -> UInt64 {
        // Its files are not looked at only to be removed.
        let use = table.use(key, isLost: true)
        return withExtendedLifetime(use) { use.blob.evict() }
    }
}
