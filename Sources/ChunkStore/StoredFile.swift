import MCFSCore
import Synchronization

/// A file of the cache as its readers have it open. An eviction unlinks it and never punches or rewrites it: who has it
/// keeps its bytes, and its space stays booked until the last of them lets go.
final class StoredFile: Sendable {
    let descriptor: OwnedDescriptor
    /// nil where there is nothing to compare a digest with, or it is known to be right.
    let hashing: Hashing?
    private let space: Space
    /// Bytes on disk that no name stands for any more.
    private let lingering = Atomic<UInt64>(0)

    init(_ descriptor: OwnedDescriptor, space: Space, hashing: Hashing? = nil) {
        self.descriptor = descriptor
        self.space = space
        self.hashing = hashing
    }

    /// It has lost its name. - Parameter bytes: what it takes on disk.
    func wasUnlinked(bytes: UInt64) {
        guard lingering.exchange(bytes, ordering: .relaxed) == 0 else { return }
        space.beganLingering(bytes)
    }

    deinit {
        let bytes = lingering.load(ordering: .relaxed)
        if bytes > 0 { space.endedLingering(bytes) }
    }

    /// The digest of its chunks from the first on.
    final class Hashing: Sendable {
        /// The state after so many chunks, kept with a map, to go on from after a restart.
        struct Saved: Equatable, Sendable {
            var count: Int
            var state: [UInt8]
        }

        /// nil once the digest was taken. Held while a slice is hashed.
        private let hasher: Lock<ContentHasher?>
        private let hashed: Atomic<Int>

        /// nil where there is nothing to compare a digest with.
        init?(_ id: BlobID, size: UInt64, from saved: Saved? = nil) {
            guard var hasher = ContentHasher(id, size: size) else { return nil }
            let isResumed = saved.map { hasher.resume($0.state) } ?? false
            self.hasher = Lock(hasher)
            hashed = Atomic(isResumed ? saved?.count ?? 0 : 0)
        }

        /// Chunks that are hashed.
        var count: Int { hashed.load(ordering: .acquiring) }

        /// Hashes the next chunks; one caller at a time.
        func add(_ chunks: Int, _ body: (inout ContentHasher) -> Void) {
            hasher.withLock { hasher in
                guard var next = hasher.take() else { return }
                body(&next)
                hasher = next
                hashed.add(chunks, ordering: .releasing)
            }
        }

        /// Once.
        func takeDigest() -> [UInt8]? { hasher.withLock { $0.take()?.digest() } }

        var saved: Saved? { hasher.withLock { $0.map { Saved(count: count, state: $0.saved) } } }
    }
}
