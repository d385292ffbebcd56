internal import Catalog
internal import ControlAPI
internal import Glibc
internal import KernelCaches
internal import MCFSCore
internal import Synchronization

/// What engines look for in a mount: kernels that they opened, and names of kernels that they looked up in vain, which is
/// how a cache that is there and never hit is noticed.
///
/// The kernel keeps names that are not there: a name counts once until something is made there. Thread safe.
final class KernelActivity: Sendable {
    private static let missedMax = 1000
    private static let usesMax = 500_000
    private static let shownMax = 20

    private struct State {
        /// By the entry's path.
        var uses: [String: Catalog.KernelUse]
        /// Not yet in the catalog.
        var unsaved: Set<String> = []
        var hits: UInt64 = 0
        var misses: UInt64 = 0
        /// Oldest first.
        var missed: [(path: TreePath, time: Int64)] = []
    }

    private let state: Lock<State>

    /// - Parameter uses: of earlier mounts at the same place.
    init(_ uses: [String: Catalog.KernelUse]) { state = Lock(State(uses: uses)) }

    func hit(_ entry: TreePath) {
        let now = Int64(time(nil))
        let path = entry.description
        state.withLock { state in
            state.hits += 1
            guard state.uses.count < Self.usesMax || state.uses[path] != nil else { return }
            state.uses[path, default: Catalog.KernelUse(hits: 0, last: 0)].hits += 1
            state.uses[path]?.last = now
            state.unsaved.insert(path)
        }
    }

    func miss(_ entry: TreePath) {
        let now = Int64(time(nil))
        state.withLock { state in
            state.misses += 1
            if state.missed.count >= Self.missedMax { state.missed.removeFirst(Self.missedMax / 10) }
            state.missed.append((entry, now))
        }
    }

    /// A file of an entry was looked up in vain: the entry is empty, which counts unless its own name did.
    func missPart(of entry: TreePath) {
        let isKnown = state.withLock { state in state.missed.suffix(Self.shownMax).contains { $0.path == entry } }
        if !isKnown { miss(entry) }
    }

    var uses: [String: Catalog.KernelUse] { state.withLock { $0.uses } }

    func hits(of entry: TreePath) -> UInt64 { state.withLock { $0.uses[entry.description]?.hits ?? 0 } }

    /// When a name was last looked up in vain; seconds since 1970.
    func lastMiss(of path: TreePath) -> Int64? {
        state.withLock { state in state.missed.last { $0.path == path }?.time }
    }

    /// Puts in what `mcfs status` shows.
    func report(in view: inout MountStatus.View) {
        let (hits, misses, missed) = state.withLock { ($0.hits, $0.misses, $0.missed.suffix(Self.shownMax)) }
        view.kernelHits = hits
        view.kernelMisses = misses
        view.missed = missed.reversed().map { MountStatus.View.Missed(path: $0.path.description, time: $0.time) }
    }

    /// What was taken could not be kept.
    func putBack(_ paths: some Sequence<String>) { state.withLock { $0.unsaved.formUnion(paths) } }

    /// What changed since it was last taken.
    func takeUnsaved() -> [String: Catalog.KernelUse] {
        state.withLock { state in
            defer { state.unsaved = [] }
            return state.uses.filter { state.unsaved.contains($0.key) }
        }
    }
}
