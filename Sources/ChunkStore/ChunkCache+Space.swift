package import MCFSCore

/// The bound on disk space: who goes when it is reached.
extension ChunkCache {
    /// Room that an eviction makes beyond what was asked, as a part of the bound: evicting in batches costs less.
    private static let slackDivisor: UInt64 = 50

    /// Counts `bytes` more of a content, evicting others where the bound demands it.
    /// - Returns: false where there is no room: everything else is pinned or in use.
    func reserve(_ id: BlobID, _ bytes: UInt64) -> Bool {
        let bytesMax = configuration.bytesMax
        if index.reserve(id, bytes, bytesMax: bytesMax) { return true }
        let slack = bytesMax / Self.slackDivisor
        let needed = LocalIndex.diskBytes(bytes) + slack
        makeRoom(downTo: bytesMax > needed ? bytesMax - needed : 0, sparing: id)
        if index.reserve(id, bytes, bytesMax: bytesMax) { return true }
        // A content larger than the bound: what was read of it goes, so that reading on is still cached.
        guard !index.isPinned(id), let use = table.useIfActive(id), index.localBytes(id) >= bytesMax / 2 else {
            return false
        }
        guard !use.blob.isComplete, use.blob.evict() else { return false }
        _ = index.remove(id)
        fetchWanted(use)
        return index.reserve(id, bytes, bytesMax: bytesMax)
    }

    /// Evicts least recently used contents until at most `bytes` are used: closed ones first, then open ones that are
    /// not complete. - Returns: bytes freed.
    @discardableResult
    private func makeRoom(downTo bytes: UInt64, sparing spared: BlobID?) -> UInt64 {
        var freed: UInt64 = 0
        let candidates = index.evictable().filter { $0.id != spared }
        for isActive in [false, true] {
            for candidate in candidates where table.isActive(candidate.id) == isActive {
                if index.used <= bytes { return freed }
                if isActive, table.useIfActive(candidate.id)?.blob.isComplete ?? false { continue }
                freed += drop(candidate.id)
            }
        }
        return freed
    }

    /// Drops what is local of one content. Whoever has it open keeps reading it.
    private func drop(_ id: BlobID) -> UInt64 {
        if let use = table.useIfActive(id) {
            guard use.blob.evict() else { return 0 }
            overflow.remove(id)
            defer { fetchWanted(use) }
            return index.remove(id)
        }
        directory.remove(CacheDirectory.map(id))
        directory.remove(CacheDirectory.partial(id))
        directory.remove(CacheDirectory.complete(id))
        return index.remove(id)
    }

    /// Replaces the set of what may not be evicted.
    package func setPinned(_ ids: Set<BlobID>) { index.setPinned(ids) }

    /// Drops what is local of `ids`, pinned or not. - Returns: bytes freed.
    package func evict(_ ids: [BlobID]) -> UInt64 { ids.reduce(0) { $0 + drop($1) } }

    /// Drops least recently used contents, never pinned or open complete ones, until at most `bytes` are used.
    /// - Returns: bytes freed.
    package func collect(downTo bytes: UInt64) -> UInt64 { makeRoom(downTo: bytes, sparing: nil) }
}
