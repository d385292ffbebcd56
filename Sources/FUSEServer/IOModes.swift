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
        /// Of the first open.
        let handle: UInt64
        var opens: Int
        /// Users who opened it for writing since it was last closed.
        var writers: Set<UInt32> = []
    }

    private struct State {
        var open: [UInt64: Inode] = [:]
        /// Inodes that the kernel may hold pages of, which it does not need once they are passed through.
        var havePages: Set<UInt64> = []
        /// Inodes that may have been written past the pages that the kernel holds of them.
        var mayBeStale: Set<UInt64> = []
    }

    private let state = Lock(State())

    /// Counts one more open of `node`, taken back by `release`.
    ///
    /// - Parameters:
    ///   - isWritable: the file can change.
    ///   - leavesPages: the kernel will have pages worth dropping, if it does not read the file by itself.
    ///   - handle: of the file that was opened; 0: any.
    ///   - writer: who can write to it by this open.
    ///   - register: makes the backing file if the file can be passed through; called without a lock, where nothing
    ///     decides yet.
    func open(
        _ node: UInt64, isWritable: Bool, leavesPages: Bool = true, handle: UInt64 = 0, writer: UInt32? = nil,
        register: () -> Passthrough.BackingFile?
    ) throws(Errno) -> Opening {
        if let mode = try state.withLock({ (state) throws(Errno) in try Self.join(node, handle, writer, &state) }) {
            return Opening(mode: mode)
        }
        let mode = register().map { Mode.passthrough($0) } ?? .cached
        return try state.withLock { (state) throws(Errno) in
            // Another thread may have been faster: its backing file is the one.
            if let mode = try Self.join(node, handle, writer, &state) { return Opening(mode: mode) }
            state.open[node] = Inode(mode: mode, handle: handle, opens: 1, writers: writer.map { [$0] } ?? [])
            switch mode {
            case .cached:
                if leavesPages { state.havePages.insert(node) }
                return Opening(mode: mode, keepsPages: state.mayBeStale.remove(node) == nil)
            case .passthrough:
                if isWritable { state.mayBeStale.insert(node) }
                return Opening(mode: mode, dropsPages: state.havePages.remove(node) != nil)
            }
        }
    }

    /// How a file was opened.
    struct Opening: Sendable {
        let mode: Mode
        /// The kernel may read from pages that it has.
        var keepsPages = true
        /// Pages that the kernel has are of no use any more.
        var dropsPages = false
        /// What the kernel sends along with each read.
        var handle: UInt64 = 0
    }

    /// Whether the kernel reads an open file by itself.
    func isPassedThrough(_ node: UInt64) -> Bool {
        state.withLock { if case .passthrough = $0.open[node]?.mode { true } else { false } }
    }

    /// The kernel has forgotten the inode, and its pages.
    func forget(_ node: UInt64) {
        state.withLock { state in
            state.havePages.remove(node)
            state.mayBeStale.remove(node)
        }
    }

    private static func join(
        _ node: UInt64, _ handle: UInt64, _ writer: UInt32?, _ state: inout State
    ) throws(Errno) -> Mode? {
        // One look at the table: this is done for every open.
        guard let place = state.open.index(forKey: node) else { return nil }
        let first = state.open.values[place]
        // The kernel would go on reading the file of the first open, which turned out wrong.
        if case .passthrough = first.mode, handle != 0, first.handle != 0, handle != first.handle { throw .io }
        state.open.values[place].opens += 1
        if let writer { state.open.values[place].writers.insert(writer) }
        return state.open.values[place].mode
    }

    /// Whether others than root and `user` can write to a file without the daemon.
    func isWrittenThrough(_ node: UInt64, byOthersThan user: UInt32) -> Bool {
        state.withLock { state in
            guard let inode = state.open[node], case .passthrough = inode.mode else { return false }
            return !inode.writers.subtracting([0, user]).isEmpty
        }
    }

    func release(_ node: UInt64) {
        // The backing file is closed after the lock.
        let last = state.withLock { state -> Inode? in
            guard let place = state.open.index(forKey: node) else { return nil }
            state.open.values[place].opens -= 1
            return state.open.values[place].opens == 0 ? state.open.remove(at: place).value : nil
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
