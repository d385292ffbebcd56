internal import Catalog
internal import MCFSCore
internal import Synchronization
internal import Upper

/// A name in a directory of the upper.
struct Place: Sendable {
    let folder: UpperFolder
    let name: [UInt8]

    func isSame(as other: Place) -> Bool { folder === other.folder && name == other.name }
}

/// A node of the mount that is not simply an entry of the tree: it stands in the upper, or what the tree has of it shows
/// at another place.
final class OverlayNode: Sendable {
    struct State: Sendable {
        /// What shows of the tree: the bytes of a file, the entries of a directory; nil: nothing (any more).
        var lower: Tree.Index?
        /// What it is in the upper; nil: it is not there.
        var identity: DiskIdentity?
        /// Directories only.
        var folder: UpperFolder?
        /// Directories only: the number of the one that it is in.
        var parent: UInt64
        /// Names, as far as they were looked up; of a file of the tree that was moved, its only one. Not of directories.
        var places: [Place] = []
        /// Holds what has lost its last name that is known, while the kernel still knows the node.
        var anchor: OwnedDescriptor?
        /// Of a directory that was removed.
        var isRemoved = false

        var isUpper: Bool { identity != nil }
    }

    /// As the kernel knows it.
    let number: UInt64
    /// `st_ino`.
    let inode: UInt64
    let isDirectory: Bool
    private let state: Lock<State>

    init(number: UInt64, inode: UInt64, isDirectory: Bool, _ state: State) {
        self.number = number
        self.inode = inode
        self.isDirectory = isDirectory
        self.state = Lock(state)
    }

    var now: State { state.withLock { $0 } }

    /// Forgets what holds it, if it has no name.
    func letGo() {
        let anchor = state.withLock { state in state.places.isEmpty || state.isRemoved ? state.anchor.take() : nil }
        withExtendedLifetime(anchor) {}
    }

    func update<Result>(_ body: (inout State) -> sending Result) -> Result { state.withLock { body(&$0) } }
}

/// Which object of the disk it is, as long as it exists.
struct DiskIdentity: Hashable, Sendable {
    let device: UInt64
    let inode: UInt64
}

/// The overlay's nodes by number and by what they are on the disk.
///
/// Entries of the tree have their own numbers (below 2³²) and stay once they are here. Everything else is numbered after
/// its inode on the disk, counted as often as the kernel was told of it, and gone when the kernel has forgotten it.
final class NodeTable: Sendable {
    private struct State {
        var byNumber: [UInt64: OverlayNode] = [:]
        var byIdentity: [DiskIdentity: OverlayNode] = [:]
        var lookups: [UInt64: UInt64] = [:]
        /// `st_ino` of files that were copied up under another number than they had: it stays while the file exists.
        var inodes: [DiskIdentity: UInt64] = [:]
        var next: UInt64 = 1 << 62
    }

    private static let firstDynamic: UInt64 = 1 << 32
    private let state = Lock(State())
    /// The disk of the upper's root.
    private let device: UInt64

    init(device: UInt64) { self.device = device }

    static func isDynamic(_ number: UInt64) -> Bool { number >= firstDynamic }

    func node(_ number: UInt64) -> OverlayNode? { state.withLock { $0.byNumber[number] } }

    func node(_ identity: DiskIdentity) -> OverlayNode? { state.withLock { $0.byIdentity[identity] } }

    /// `st_ino` of an object of the disk.
    func inode(of identity: DiskIdentity) -> UInt64 {
        state.withLock { Self.inode(of: identity, $0, device) }
    }

    private static func inode(of identity: DiskIdentity, _ state: borrowing State, _ device: UInt64) -> UInt64 {
        if let known = state.byIdentity[identity]?.inode ?? state.inodes[identity] { return known }
        return identity.inode &+ firstDynamic &+ (identity.device == device ? 0 : identity.device << 40)
    }

    /// The node of an object of the disk; made by `make` with its number and `st_ino` where there is none.
    func node(_ identity: DiskIdentity, make: (_ number: UInt64, _ inode: UInt64) -> OverlayNode) -> OverlayNode {
        state.withLock { state in
            if let known = state.byIdentity[identity] { return known }
            let inode = Self.inode(of: identity, state, device)
            var number = identity.inode &+ Self.firstDynamic
            // Taken by something that has lost its name and its place on the disk, or by another disk's.
            if state.byNumber[number] != nil || !Self.isDynamic(number) || identity.device != device {
                number = state.next
                state.next += 1
            }
            let node = make(number, inode)
            state.byNumber[number] = node
            state.byIdentity[identity] = node
            return node
        }
    }

    /// The node of an entry of the tree.
    func node(entryNumber number: UInt64, make: () -> OverlayNode) -> OverlayNode {
        state.withLock { state in
            if let known = state.byNumber[number] { return known }
            let node = make()
            state.byNumber[number] = node
            return node
        }
    }

    /// The node is this object of the disk from now on.
    func identify(_ node: OverlayNode, as identity: DiskIdentity) {
        node.update { $0.identity = identity }
        state.withLock { $0.byIdentity[identity] = node }
    }

    /// The object of the disk has no name any more, or another node.
    func forget(_ identity: DiskIdentity) {
        state.withLock { state in
            state.byIdentity[identity] = nil
            state.inodes[identity] = nil
        }
    }

    /// A file of the tree was copied under a new number, while the old one is still read.
    func keepInode(_ inode: UInt64, of identity: DiskIdentity) { state.withLock { $0.inodes[identity] = inode } }

    /// The kernel is told of a node once more. It is in the table afterwards, also where the kernel forgot it since it
    /// was found.
    func count(_ node: OverlayNode) {
        guard Self.isDynamic(node.number) else { return }
        state.withLock { state in
            state.lookups[node.number, default: 0] += 1
            guard state.byNumber[node.number] == nil else { return }
            state.byNumber[node.number] = node
            if let identity = node.now.identity { state.byIdentity[identity] = node }
        }
    }

    /// The kernel has forgotten a node so often; with 0, one that was found and that it was not told of.
    @discardableResult
    func forget(_ number: UInt64, _ count: UInt64) -> Bool {
        guard Self.isDynamic(number) else {
            // It stays, but who has lost its name is held for nobody any more.
            if count > 0 { node(number)?.letGo() }
            return false
        }
        let gone = state.withLock { state -> OverlayNode? in
            let left = (state.lookups[number] ?? 0).subtractingReportingOverflow(count)
            if !left.overflow && left.partialValue > 0 {
                state.lookups[number] = left.partialValue
                return nil
            }
            state.lookups[number] = nil
            guard let node = state.byNumber.removeValue(forKey: number) else { return nil }
            if let identity = node.now.identity, state.byIdentity[identity] === node {
                state.byIdentity[identity] = nil
            }
            return node
        }
        // Its anchor is closed after the lock.
        return withExtendedLifetime(gone) { gone != nil }
    }
}
