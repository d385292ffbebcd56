internal import Catalog
internal import MCFSCore
internal import Synchronization
internal import Upper

/// A name in a directory of the upper.
struct Place: Hashable, Sendable {
    let folder: UpperFolder
    let name: [UInt8]

    static func == (one: Place, other: Place) -> Bool { one.folder === other.folder && one.name == other.name }

    func hash(into hasher: inout Hasher) {
        hasher.combine(ObjectIdentifier(folder))
        hasher.combine(name)
    }
}

/// A node of the mount that is not simply an entry of the tree: it stands in the upper, or what the tree has of it shows
/// at another place.
final class OverlayNode: Sendable {
    /// What it is. A directory never becomes anything else than a directory.
    enum State: Sendable {
        /// A file of the tree that shows elsewhere than the tree has it; nil: nowhere any more.
        case movedFile(Place?)
        /// A directory of the tree of which something is remembered, and which the upper does not have.
        case treeDirectory(Tree.Index, folder: UpperFolder, parent: UInt64)
        case upperFile(UpperFile)
        /// - Parameter shows: what shows of the tree in it.
        case upperDirectory(DiskIdentity, folder: UpperFolder, shows: Tree.Index?, parent: UInt64)
        /// A directory that was removed, for who has it open or stands in it: of the upper, held by `anchor`, or of the tree.
        case removedDirectory(DiskIdentity?, anchor: OwnedDescriptor?, parent: UInt64)
    }

    struct UpperFile: Sendable {
        let identity: DiskIdentity
        /// Names, as far as they were looked up.
        var places: Set<Place> = []
        /// Holds what has no name that is known, while the kernel still knows the node.
        var anchor: OwnedDescriptor?
    }

    /// As the kernel knows it.
    let number: UInt64
    /// `st_ino`.
    let inode: UInt64
    private let state: Lock<State>

    init(number: UInt64, inode: UInt64, _ state: State) {
        self.number = number
        self.inode = inode
        self.state = Lock(state)
    }

    /// Costs a copy of `places` where it is kept while they change.
    var now: State { state.withLock { $0 } }

    func become(_ state: State) {
        let old = self.state.withLock { current in
            defer { current = state }
            return current
        }
        // Its anchor is closed after the lock.
        withExtendedLifetime(old) {}
    }

    /// A file of the tree shows there from now on, unless it has come to be in the upper.
    func move(to place: Place) {
        state.withLock { state in
            if case .movedFile = state { state = .movedFile(place) }
        }
    }

    /// nil for what is no file of the upper.
    @discardableResult
    func updateFile<Result>(_ body: (inout UpperFile) -> Result) -> Result? {
        state.withLock { state in
            guard case .upperFile(var file) = state else { return nil }
            // Else the places would be copied for each change.
            state = .movedFile(nil)
            defer { state = .upperFile(file) }
            return body(&file)
        }
    }

    /// One of its names, if it is a file of the upper.
    var place: Place? { updateFile { $0.places.first } ?? nil }

    func has(_ place: Place) -> Bool { updateFile { $0.places.contains(place) } ?? false }

    /// Forgets what holds it, if it has no name.
    func letGo() {
        let anchor = state.withLock { state -> OwnedDescriptor? in
            switch state {
            case .upperFile(var file) where file.places.isEmpty:
                defer { state = .upperFile(file) }
                return file.anchor.take()
            case .removedDirectory(let identity, let anchor, let parent):
                state = .removedDirectory(identity, anchor: nil, parent: parent)
                return anchor
            default: return nil
            }
        }
        withExtendedLifetime(anchor) {}
    }
}

extension OverlayNode.State {
    var isDirectory: Bool {
        switch self {
        case .movedFile, .upperFile: false
        case .treeDirectory, .upperDirectory, .removedDirectory: true
        }
    }

    /// What it is on the disk of the upper; nil: the tree has it.
    var identity: DiskIdentity? {
        switch self {
        case .movedFile, .treeDirectory: nil
        case .upperFile(let file): file.identity
        case .upperDirectory(let identity, _, _, _): identity
        case .removedDirectory(let identity, _, _): identity
        }
    }

    var isUpper: Bool { identity != nil }

    var isRemoved: Bool { if case .removedDirectory = self { true } else { false } }

    /// What shows of the tree in a directory.
    var shown: Tree.Index? {
        switch self {
        case .treeDirectory(let entry, _, _): entry
        case .upperDirectory(_, _, let entry, _): entry
        case .movedFile, .upperFile, .removedDirectory: nil
        }
    }

    var folder: UpperFolder? {
        switch self {
        case .treeDirectory(_, let folder, _), .upperDirectory(_, let folder, _, _): folder
        case .movedFile, .upperFile, .removedDirectory: nil
        }
    }

    /// Of a directory: the number of the one that it is in.
    var parent: UInt64? {
        switch self {
        case .treeDirectory(_, _, let parent), .upperDirectory(_, _, _, let parent): parent
        case .removedDirectory(_, _, let parent): parent
        case .movedFile, .upperFile: nil
        }
    }
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
        /// Files of the upper that have a number of the tree's, and another node for who looks them up: see `leave`.
        var leaving: [DiskIdentity: OverlayNode] = [:]
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

    /// The node of an entry of the tree is this from now on.
    @discardableResult
    func become(_ new: OverlayNode.State, ofEntry entry: Node) -> OverlayNode {
        let node = node(entryNumber: entry.number) { OverlayNode(number: entry.number, inode: entry.number, new) }
        node.become(new)
        if let identity = new.identity { identify(node, as: identity) }
        return node
    }

    /// The node is this object of the disk from now on.
    func identify(_ node: OverlayNode, as identity: DiskIdentity) {
        state.withLock { $0.byIdentity[identity] = node }
    }

    /// The object of the disk has no name any more, or another node.
    func forget(_ identity: DiskIdentity) {
        state.withLock { state in
            state.byIdentity[identity] = nil
            state.inodes[identity] = nil
            state.leaving[identity] = nil
        }
    }

    /// A file of the tree was copied under a new number, while the old one is still read.
    func keepInode(_ inode: UInt64, of identity: DiskIdentity) { state.withLock { $0.inodes[identity] = inode } }

    /// The number is the tree's alone again, as if nothing had been known of the entry.
    func drop(_ node: OverlayNode) {
        let identity = node.now.identity
        state.withLock { state in
            if state.byNumber[node.number] === node { state.byNumber[node.number] = nil }
            if let identity, state.byIdentity[identity] === node {
                state.byIdentity[identity] = nil
                state.inodes[identity] = nil
            }
            if let identity, state.leaving[identity] === node { state.leaving[identity] = nil }
        }
    }

    // MARK: Numbers that are given back to the tree

    /// Who looks the file up from now on gets another node, with a number of its own. Who knows it by this one goes on, until
    /// the node is dropped or `stay`s.
    func leave(_ node: OverlayNode) {
        guard let identity = node.now.identity else { return }
        state.withLock { state in
            state.leaving[identity] = node
            if state.byIdentity[identity] === node { state.byIdentity[identity] = nil }
        }
    }

    /// The node keeps its number, or has it again after it was dropped. If the file got another node meanwhile, it has two.
    func stay(_ node: OverlayNode) {
        guard let identity = node.now.identity else { return }
        state.withLock { state in
            guard (state.byNumber[node.number] ?? node) === node else { return }
            state.byNumber[node.number] = node
            if state.byIdentity[identity] == nil {
                state.byIdentity[identity] = node
                state.leaving[identity] = nil
            } else if state.byIdentity[identity] !== node {
                state.leaving[identity] = node
            }
        }
    }

    /// Whether who looks the file up gets this node.
    func isFound(_ node: OverlayNode, as identity: DiskIdentity) -> Bool {
        state.withLock { $0.byIdentity[identity] === node }
    }

    /// Changes what is known of a file of the upper, also in the node that it has beside this one. nil for what is none.
    @discardableResult
    func updateFile(_ node: OverlayNode, _ body: (inout OverlayNode.UpperFile) -> Void) -> Void? {
        guard node.updateFile(body) != nil else { return nil }
        guard state.withLock({ !$0.leaving.isEmpty }), let identity = node.now.identity else { return () }
        if let other = state.withLock({ $0.leaving[identity] }), other !== node { other.updateFile(body) }
        return ()
    }

    // MARK: What the kernel knows

    var all: [OverlayNode] { state.withLock { Array($0.byNumber.values) } }

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

    /// Takes back one `count` by who is not the kernel.
    func release(_ number: UInt64) {
        if Self.isDynamic(number) { forget(number, 1) }
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
