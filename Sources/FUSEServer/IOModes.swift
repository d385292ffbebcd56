internal import MCFSCore
internal import Synchronization

/// How the kernel reads each file that is open: through the daemon into pages of its own, or from the cache's file.
///
/// While an inode is open, all its opens have one mode and one backing file; the kernel answers EIO to an open that
/// mixes them. So the first open decides, and what was opened while it was being fetched is passed through once all its
/// opens and maps are gone. The kernel counts an open out before it says so by RELEASE: the count here is never too low.
final class IOModes: Sendable {
    enum Mode: Sendable {
        case cached
        case passthrough(Passthrough.BackingFile)
    }

    private struct Inode {
        let mode: Mode
        var opens: Int
    }

    private struct State {
        var open: [UInt64: Inode] = [:]
        /// Inodes that the kernel may hold pages of, which it does not need once they are passed through.
        var havePages: Set<UInt64> = []
    }

    private let state = Mutex(State())

    /// Counts one more open of `node`, taken back by `release`.
    ///
    /// - Parameter register: makes the backing file if the file can be passed through; called without a lock, where
    ///   nothing decides yet.
    /// - Returns: `dropsPages`: pages that the kernel cached before are of no use any more.
    func open(
        _ node: UInt64, register: () -> Passthrough.BackingFile?
    ) -> (mode: Mode, dropsPages: Bool) {
        if let mode = state.withLock({ Self.join(node, &$0) }) { return (mode, false) }
        let mode = register().map { Mode.passthrough($0) } ?? .cached
        return state.withLock { state in
            // Another thread may have been faster: its backing file is the one.
            if let mode = Self.join(node, &state) { return (mode, false) }
            state.open[node] = Inode(mode: mode, opens: 1)
            switch mode {
            case .cached:
                state.havePages.insert(node)
                return (mode, false)
            case .passthrough:
                return (mode, state.havePages.remove(node) != nil)
            }
        }
    }

    private static func join(_ node: UInt64, _ state: inout State) -> Mode? {
        state.open[node]?.opens += 1
        return state.open[node]?.mode
    }

    func release(_ node: UInt64) {
        // The backing file is closed after the lock.
        let last = state.withLock { state -> Inode? in
            guard let opens = state.open[node]?.opens else { return nil }
            if opens == 1 { return state.open.removeValue(forKey: node) }
            state.open[node]?.opens = opens - 1
            return nil
        }
        withExtendedLifetime(last) {}
    }

    /// Lets go of every backing file: the session ends.
    func clear() {
        let all = state.withLock { state in
            defer { state.open = [:] }
            return state.open
        }
        withExtendedLifetime(all) {}
    }
}
