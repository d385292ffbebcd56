import MCFSCore

/// Makes room where the bound is reached, on a thread of its own: contents that nobody uses, used longest ago first; then
/// ones that are open and not complete, whose readers fetch again what they need.
struct Evictor: Sendable {
    private static let batchCount = 256

    let space: Space
    let table: BlobTable

    /// Runs until the space ends.
    func run() {
        while let bytes = space.waitForDemand() {
            evict(downTo: bytes)
            if space.isAbove(bytes) { space.evictedAllThereIs() }
        }
    }

    /// Evicts until at most `bytes` are taken, if that can be. - Returns: bytes freed.
    @discardableResult
    func evict(downTo bytes: UInt64) -> UInt64 {
        var freed = evict(downTo: bytes) { table.useIfActive($0) == nil }
        freed += evict(downTo: bytes) { key in
            guard let use = table.useIfActive(key), !use.blob.isComplete else { return false }
            // Who reads much in a small cache must not lose it to who reads little.
            return table.activeCount > 1 || space.localBytes(key) ?? 0 >= space.bytesMax / 2
        }
        return freed
    }

    private func evict(downTo bytes: UInt64, _ mayGo: (ContentKey) -> Bool) -> UInt64 {
        var freed: UInt64 = 0
        var skipped: Set<ContentKey> = []
        while space.isAbove(bytes) {
            let keys = space.oldest(Self.batchCount, skipping: skipped)
            if keys.isEmpty { break }
            for key in keys {
                guard space.isAbove(bytes) else { break }
                var gone: UInt64 = 0
                if mayGo(key) {
                    let use = table.use(key)
                    gone = withExtendedLifetime(use) { use.blob.evict() }
                }
                freed += gone
                if gone == 0 { skipped.insert(key) }
            }
        }
        return freed
    }
}
