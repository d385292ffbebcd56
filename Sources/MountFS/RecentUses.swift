internal import CLinux
internal import Catalog
internal import Glibc
internal import MCFSCore
internal import Synchronization

/// Which entries were opened in this second, as far as that is remembered: who opens the same small files over and over need
/// not say so to the cache each time.
///
/// Thread safe.
final class RecentUses: Sendable {
    private static let places = 1024

    /// Entry and second, at a place that follows from the entry.
    private let uses = Lock([UInt64](repeating: 0, count: places))

    /// Whether that is not known of this second; it is then.
    func isNew(_ entry: Tree.Index) -> Bool {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now)
        // Never 0.
        let use = UInt64(entry) << 32 | UInt64(UInt32(truncatingIfNeeded: now.tv_sec + 1))
        return uses.withLock { uses in
            let place = Int(entry) % Self.places
            defer { uses[place] = use }
            return uses[place] != use
        }
    }
}
