internal import Catalog
internal import ChunkStore
internal import ControlAPI
internal import MCFSCore
internal import Synchronization

/// How much of a tree is local. The sums are kept until the cache changes.
final class Residency: Sendable {
    struct Local: Sendable {
        var bytes: UInt64 = 0
        /// Of files without a digest.
        var unverifiable = Unverifiable()
    }

    let bytesTotal: UInt64
    private let contents: Tree.Contents
    private let known = KeptCount<Local>()

    init(_ tree: Tree) {
        contents = tree.contents
        bytesTotal = contents.clampedSum(\.size)
    }

    func local(in cache: ChunkCache) -> Local {
        known.value(cache) {
            var local = Local()
            for content in contents {
                let bytes = cache.localBytes(of: content.id, size: content.size)
                local.bytes.addClamped(bytes)
                if content.id.kind == .origin, bytes > 0 { local.unverifiable.add(bytes) }
            }
            return local
        }
    }
}

/// A count of what is local, made anew when bytes came into the cache or left it.
final class KeptCount<Value: Sendable>: Sendable {
    private struct Stamp: Equatable {
        var bytesUsed: UInt64
        var originBytes: UInt64
    }

    private let state = Lock<(stamp: Stamp, value: Value)?>(nil)

    func value(_ cache: ChunkCache, _ count: () -> Value) -> Value {
        let stamp = Stamp(bytesUsed: cache.usage.bytesUsed, originBytes: cache.statistics.originBytes)
        if let known = state.withLock({ $0?.stamp == stamp ? $0?.value : nil }) { return known }
        let value = count()
        state.withLock { $0 = (stamp, value) }
        return value
    }
}

extension Unverifiable {
    /// One more file of which so many bytes are local.
    mutating func add(_ localBytes: UInt64) {
        files += 1
        bytes.addClamped(localBytes)
    }
}
