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
        /// Inodes that were opened so that they can be mapped for writing past the daemon: a map outlives its open, and the
        /// kernel does not tell of its end.
        var mayBeMapped: [UInt64: Mapping] = [:]
        var mappingOpens: UInt64 = 0

        /// - Returns: whether nobody knew before that the inode can be written to past the daemon.
        mutating func note(_ maps: Bool, _ node: UInt64, _ mode: Mode) -> Bool {
            guard maps, case .passthrough = mode else { return false }
            mappingOpens += 1
            return mayBeMapped.updateValue(Mapping(number: mappingOpens), forKey: node) == nil
        }
    }

    private struct Mapping {
        /// Of the latest such open.
        let number: UInt64
        /// Whether the attributes were asked for when nobody had it open any more.
        var wasAsked = false
    }

    private let state = Lock(State())

    /// Counts one more open of `node`, taken back by `release`.
    ///
    /// - Parameters:
    ///   - isWritable: the file can change.
    ///   - leavesPages: the kernel will have pages worth dropping, if it does not read the file by itself.
    ///   - handle: of the file that was opened; 0: any.
    ///   - writer: who can write to it by this open.
    ///   - maps: it can be mapped for writing by this open.
    ///   - register: makes the backing file if the file can be passed through; called without a lock, where nothing
    ///     decides yet.
    func open(
        _ node: UInt64, isWritable: Bool, leavesPages: Bool = true, handle: UInt64 = 0, writer: UInt32? = nil,
        maps: Bool = false, register: () -> Passthrough.BackingFile?
    ) throws(Errno) -> Opening {
        if let opening = try state.withLock({ (state) throws(Errno) in try Self.join(node, handle, writer, maps, &state)
        }) {
            return opening
        }
        let mode = register().map { Mode.passthrough($0) } ?? .cached
        return try state.withLock { (state) throws(Errno) in
            // Another thread may have been faster: its backing file is the one.
            if let opening = try Self.join(node, handle, writer, maps, &state) { return opening }
            state.open[node] = Inode(mode: mode, handle: handle, opens: 1, writers: writer.map { [$0] } ?? [])
            switch mode {
            case .cached:
                if leavesPages { state.havePages.insert(node) }
                return Opening(mode: mode, keepsPages: state.mayBeStale.remove(node) == nil)
            case .passthrough:
                if isWritable { state.mayBeStale.insert(node) }
                return Opening(
                    mode: mode, dropsPages: state.havePages.remove(node) != nil,
                    dropsAttributes: state.note(maps, node, mode))
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
        /// Attributes that the kernel has may change without its notice from now on.
        var dropsAttributes = false
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
            state.mayBeMapped[node] = nil
        }
    }

    private static func join(
        _ node: UInt64, _ handle: UInt64, _ writer: UInt32?, _ maps: Bool, _ state: inout State
    ) throws(Errno) -> Opening? {
        // One look at the table: this is done for every open.
        guard let place = state.open.index(forKey: node) else { return nil }
        let first = state.open.values[place]
        // The kernel would go on reading the file of the first open, which turned out wrong.
        if case .passthrough = first.mode, handle != 0, first.handle != 0, handle != first.handle { throw .io }
        state.open.values[place].opens += 1
        if let writer { state.open.values[place].writers.insert(writer) }
        return Opening(mode: first.mode, dropsAttributes: state.note(maps, node, first.mode))
    }

    /// Whether a file may be changed through a map that the kernel does not tell of.
    ///
    /// - Parameters:
    ///   - inListing: a listing asks. Who opens a file asks before, so that others get no answer at their first question
    ///     after the last open.
    ///   - isHeld: whether anybody holds the file for writing; asked without a lock.
    func mayBeMapped(_ node: UInt64, inListing: Bool, isHeld: () -> Bool) -> Bool {
        let number = state.withLock { state -> UInt64? in
            guard let known = state.mayBeMapped[node] else { return nil }
            guard state.open[node] == nil, known.wasAsked || inListing else {
                if state.open[node] == nil { state.mayBeMapped[node]?.wasAsked = true }
                return 0
            }
            return known.number
        }
        guard let number else { return false }
        if number == 0 || isHeld() { return true }
        return state.withLock { state in
            // It may have been opened since.
            if state.mayBeMapped[node]?.number == number { state.mayBeMapped[node] = nil }
            return state.mayBeMapped[node] != nil
        }
    }

    /// Whether others than root and `user` can write to a file without the daemon, and would leave it set-id bits.
    func leavesSetID(_ node: UInt64, whenWrittenByOthersThan user: UInt32) -> Bool {
        state.withLock { state in
            guard let inode = state.open[node], case .passthrough(let file) = inode.mode, !file.dropsSetID else {
                return false
            }
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
