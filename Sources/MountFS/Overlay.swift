internal import CLinux
internal import Catalog
package import Glibc
package import MCFSCore
internal import Synchronization
package import Upper

/// The writable directory of a mount over its tree: what is looked up, listed, made, renamed, deleted, written.
///
/// A name of a directory shows, in this order: what the upper has there; what the folder's mark says (nothing, or another
/// entry of the tree); what the tree has there. Directories of both merge. Entries of the tree that nobody touched have
/// no node here and cost nothing.
///
/// - A directory comes to be in the upper when something in it changes. A file does when it is written to, linked, or
///   gets an access control list (`copyUp`); its owner, mode, times and other attributes are kept aside until then.
/// - Numbers of nodes: `NodeTable`. What the upper remembers and what a crash leaves: `UpperDirectory`.
///
/// Locks: `structure` is held for reading by whatever looks at names and for writing by whatever changes them, for a few
/// system calls on the disk of the upper, never for the network. Reads and writes of open files take none of it. The
/// locks of `NodeTable`, `OverlayNode`, `OpenFiles` and `LowerTree` are taken below it, one at a time, for a few lines.
///
/// Errors are the errno that the caller shall see. ESTALE makes the kernel look the name up once more.
package final class Overlay: MountedFiles {
    package let upper: UpperDirectory
    let lower: LowerTree
    let openFiles: OpenFiles
    let structure = ReadWriteLock()
    let nodes: NodeTable
    let listings = Lock<[UInt64: Listed]>([:])
    let listingCount = Lock<UInt64>(0)
    let isClosed = Atomic<Bool>(false)
    /// Whether the daemon can make files for others.
    let isRoot = geteuid() == 0

    init(_ lower: LowerTree, _ upper: UpperDirectory, _ openFiles: OpenFiles) {
        self.lower = lower
        self.upper = upper
        self.openFiles = openFiles
        nodes = NodeTable(device: upper.device)
        let root = nodes.node(entryNumber: Node.root.number) { [upper] in
            OverlayNode(
                number: Node.root.number, inode: Node.root.number, isDirectory: true,
                OverlayNode.State(lower: Tree.root, folder: upper.root, parent: Node.root.number))
        }
        if let status = try? upper.rootObject.status() { nodes.identify(root, as: DiskIdentity(status)) }
        findMovedDirectories()
        // A name of a file that is gone may be another one's in a later version of the tree; it is passed over then.
        for (path, metadata) in upper.metadata {
            if let entry = tree.entry(at: path), tree.attributes(of: entry).kind == .file {
                lower.setMetadata(metadata, of: entry)
            }
        }
    }

    var tree: Tree { lower.tree }

    /// Directories that were renamed have their nodes before anybody asks for what is in them.
    private func findMovedDirectories() {
        var paths: [TreePath] = []
        upper.root.forEachMark { path, mark in
            if case .redirect = mark { paths.append(path) }
        }
        for path in paths {
            var directory = try? directory(.root)
            for name in path.components {
                guard let parent = directory, let found = try? find(name, in: parent) else { break }
                switch found {
                case .upper(let node, _): directory = try? self.directory(Node(number: node.number))
                case .lower(let entry, let node):
                    directory = Directory(number: Node(entry: entry).number, lower: entry, folder: node?.now.folder)
                }
            }
        }
    }

    /// Runs `body`, which changes names or nodes, alone.
    func changing<Result>(_ body: () throws(Errno) -> Result) throws(Errno) -> Result {
        try structure.writing { () throws(Errno) in
            if isClosed.load(ordering: .relaxed) { throw .notConnected }
            try upper.settle()
            return try body()
        }
    }

    /// Whether a file of the tree has more names than one.
    func hasSeveralNames(_ node: Node) -> Bool {
        node.entry(count: tree.count).map { tree.attributes(of: $0).linkCount > 1 } ?? false
    }

    // MARK: Names

    /// A directory as a number stands for it.
    struct Directory {
        let number: UInt64
        /// What shows of the tree in it; nil: nothing.
        var lower: Tree.Index?
        /// nil where nothing in it was ever changed.
        var folder: UpperFolder?
    }

    /// What stands at a name.
    enum Found {
        case upper(OverlayNode, stat)
        /// An entry of the tree; its node where it has one.
        case lower(Tree.Index, OverlayNode?)
    }

    /// nil where the directory has no such name. Counts as one look-up of what is found.
    package func lookup(_ name: UnsafeRawBufferPointer, in directory: Node) throws(Errno) -> NodeAttributes? {
        let name = Array(name)
        return try structure.reading { () throws(Errno) in
            let parent = try self.directory(directory)
            guard let found = try find(name, in: parent) else {
                name.withUnsafeBytes { lower.view.missed($0, in: path(of: parent)) }
                return nil
            }
            if case .upper(let node, _) = found { nodes.count(node) }
            return attributes(of: found)
        }
    }

    /// The kernel has forgotten a node so often. - Returns: whether the node is gone.
    package func forget(_ node: Node, _ count: UInt64) -> Bool { nodes.forget(node.number, count) }

    package func attributes(of node: Node) throws(Errno) -> NodeAttributes {
        try structure.reading { () throws(Errno) in try currentAttributes(of: node) }
    }

    /// Of a node that was just copied: ESTALE where the copy is another node.
    package func attributes(ofUpper node: Node) throws(Errno) -> NodeAttributes {
        try structure.reading { () throws(Errno) in
            _ = try upperNode(node)
            return try currentAttributes(of: node)
        }
    }

    func currentAttributes(of node: Node) throws(Errno) -> NodeAttributes {
        guard let known = nodes.node(node.number) else { return lower.attributes(of: try entry(of: node)) }
        let state = known.now
        if state.isUpper { return attributes(of: known, try object(of: known).status()) }
        guard let entry = state.lower else { throw .stale }
        return lower.attributes(of: entry)
    }

    package func readLink(_ node: Node) throws(Errno) -> [UInt8] {
        try structure.reading { () throws(Errno) in
            if let known = nodes.node(node.number), known.now.isUpper { return try object(of: known).linkTarget() }
            let entry = try entry(of: node)
            guard tree.attributes(of: entry).kind == .symlink else { throw .invalid }
            return tree.target(of: entry)
        }
    }

    /// Nothing changes in the upper from now on: another mount may have it.
    package func close() {
        structure.writing {
            isClosed.store(true, ordering: .relaxed)
            upper.close()
        }
    }

    package func usage() throws(Errno) -> statvfs { try upper.usage() }

    // MARK: Looking, under the lock

    func entry(of node: Node) throws(Errno) -> Tree.Index {
        guard let entry = node.entry(count: tree.count) else { throw .stale }
        return entry
    }

    func directory(_ node: Node) throws(Errno) -> Directory {
        if let known = nodes.node(node.number) {
            guard known.isDirectory else { throw .notDirectory }
            let state = known.now
            // Nothing is in it, and nothing can be made in it.
            if state.isRemoved { return Directory(number: node.number) }
            return Directory(number: node.number, lower: state.lower, folder: state.folder)
        }
        let entry = try entry(of: node)
        guard tree.attributes(of: entry).kind == .directory else { throw .notDirectory }
        return Directory(number: node.number, lower: entry, folder: nil)
    }

    func isHidden(_ name: [UInt8], in directory: Directory) -> Bool {
        directory.number == Node.root.number && name == UpperDirectory.hiddenName
    }

    /// Where a directory shows in the mount; for those that hear of names.
    func path(of directory: Directory) -> TreePath {
        directory.folder?.path ?? directory.lower.map { tree.path(of: $0) } ?? .root
    }

    /// What of the tree belongs to a name, whatever the upper has there.
    func lowerEntry(_ name: [UInt8], in directory: Directory) -> Tree.Index? {
        switch directory.folder?.mark(name) {
        case .whiteout: nil
        case .redirect(let path): tree.entry(at: path)
        case nil: naturalEntry(name, in: directory)
        }
    }

    /// What the tree itself has at a name of the directory that shows.
    func naturalEntry(_ name: [UInt8], in directory: Directory) -> Tree.Index? {
        directory.lower.flatMap { entry in name.withUnsafeBytes { tree.lookup($0, in: entry) } }
    }

    /// - Parameter seesHidden: what the view hides is found, too.
    func find(_ name: [UInt8], in directory: Directory, seesHidden: Bool = false) throws(Errno) -> Found? {
        if name.count > TreePath.nameBytesMax { throw Errno(rawValue: ENAMETOOLONG) }
        if isHidden(name, in: directory) { return nil }
        if let folder = directory.folder, let status = try upper.status(name, in: folder) {
            return .upper(node(status, name, in: directory, folder), status)
        }
        let shown = seesHidden ? lowerEntry(name, in: directory) : shownEntry(name, in: directory)
        guard let entry = shown else { return nil }
        return .lower(entry, try lowerNode(entry, name, in: directory))
    }

    /// What shows of the tree at a name that the upper has nothing at. What was moved shows always: somebody wanted it.
    func shownEntry(_ name: [UInt8], in directory: Directory) -> Tree.Index? {
        guard let entry = lowerEntry(name, in: directory) else { return nil }
        return lower.view.hides(entry) && directory.folder?.mark(name) == nil ? nil : entry
    }

    /// The node of what the upper has at a name.
    func node(_ status: stat, _ name: [UInt8], in directory: Directory, _ folder: UpperFolder) -> OverlayNode {
        let identity = DiskIdentity(status)
        guard status.st_mode & S_IFMT == S_IFDIR else {
            let place = Place(folder: folder, name: name)
            let node = nodes.node(identity) { number, inode in
                OverlayNode(
                    number: number, inode: inode, isDirectory: false,
                    OverlayNode.State(lower: nil, identity: identity, folder: nil, parent: 0))
            }
            node.update { state in
                if !state.places.contains(where: { $0.isSame(as: place) }) { state.places.append(place) }
            }
            return node
        }
        if let known = nodes.node(identity) { return known }
        var below = lowerEntry(name, in: directory)
        if let entry = below, tree.attributes(of: entry).kind != .directory { below = nil }
        let own = folder.folder(name)
        own.isOnDisk = true
        let state = OverlayNode.State(lower: below, identity: identity, folder: own, parent: directory.number)
        guard let below else {
            return nodes.node(identity) { number, inode in
                OverlayNode(number: number, inode: inode, isDirectory: true, state)
            }
        }
        let number = Node(entry: below).number
        let node = nodes.node(entryNumber: number) {
            OverlayNode(number: number, inode: number, isDirectory: true, state)
        }
        node.update { $0 = state }
        nodes.identify(node, as: identity)
        return node
    }

    /// The node of an entry of the tree that shows at a name; nil where the tree says all of it.
    private func lowerNode(
        _ entry: Tree.Index, _ name: [UInt8], in directory: Directory
    ) throws(Errno) -> OverlayNode? {
        let number = Node(entry: tree.inode(of: entry)).number
        if let known = nodes.node(number) {
            // Another name of a file that is in the upper: the number is taken by what it has become.
            if known.now.isUpper { throw .stale }
            return known
        }
        guard let folder = directory.folder else { return nil }
        let isMoved = folder.mark(name) != nil
        if tree.attributes(of: entry).kind == .directory {
            guard isMoved || folder.known(name) != nil else { return nil }
            return nodes.node(entryNumber: number) {
                OverlayNode(
                    number: number, inode: number, isDirectory: true,
                    OverlayNode.State(lower: entry, folder: folder.folder(name), parent: directory.number))
            }
        }
        return isMoved ? movedFile(entry, to: Place(folder: folder, name: name)) : nil
    }

    /// The node of a file of the tree that has its name elsewhere.
    func movedFile(_ entry: Tree.Index, to place: Place) -> OverlayNode {
        let number = Node(entry: tree.inode(of: entry)).number
        let node = nodes.node(entryNumber: number) {
            OverlayNode(
                number: number, inode: number, isDirectory: false,
                OverlayNode.State(lower: entry, folder: nil, parent: 0))
        }
        node.update { $0.places = [place] }
        return node
    }

    /// How to reach what a node is in the upper.
    func object(of node: OverlayNode) throws(Errno) -> UpperObject {
        let state = node.now
        if let folder = state.folder {
            if state.isRemoved {
                guard let anchor = state.anchor else { throw .stale }
                return .descriptor(anchor)
            }
            return .descriptor(try upper.descriptor(of: folder))
        }
        if case .upper(let descriptor) = openFiles.known(node.number) { return .descriptor(descriptor) }
        if let place = state.places.first { return try upper.object(place.name, in: place.folder) }
        guard let anchor = state.anchor else { throw .stale }
        return .descriptor(anchor)
    }

    func attributes(of found: Found) -> NodeAttributes {
        switch found {
        case .upper(let node, let status): attributes(of: node, status)
        case .lower(let entry, _): lower.attributes(of: entry)
        }
    }

    func attributes(of node: OverlayNode, _ status: stat) -> NodeAttributes {
        var attributes = NodeAttributes(status, node: Node(number: node.number), inode: node.inode)
        let state = node.now
        // Subdirectories of the tree are not counted on the disk; 1 says "not known", as other file systems do.
        if node.isDirectory && !state.isRemoved && state.lower != nil { attributes.linkCount = 1 }
        if state.isRemoved { attributes.linkCount = 0 }
        return attributes
    }
}

extension DiskIdentity {
    init(_ status: stat) { self.init(device: UInt64(status.st_dev), inode: UInt64(status.st_ino)) }
}

extension Errno {
    static let stale = Errno(rawValue: ESTALE)
    static let invalid = Errno(rawValue: EINVAL)
    static let notDirectory = Errno(rawValue: ENOTDIR)
    static let isDirectory = Errno(rawValue: EISDIR)
    static let notEmpty = Errno(rawValue: ENOTEMPTY)
    static let notPermitted = Errno(rawValue: EPERM)
    static let noAttribute = Errno(rawValue: ENODATA)
}

extension NodeAttributes {
    init(_ status: stat, node: Node, inode: UInt64) {
        let kind: Kind =
            switch status.st_mode & S_IFMT {
            case S_IFDIR: .directory
            case S_IFLNK: .symlink
            case S_IFIFO: .fifo
            case S_IFCHR: .characterDevice
            case S_IFBLK: .blockDevice
            case S_IFSOCK: .socket
            default: .file
            }
        self.init(
            node: node, inode: inode, kind: kind, permissions: UInt16(status.st_mode & 0o7777),
            linkCount: UInt32(clamping: status.st_nlink), uid: status.st_uid, gid: status.st_gid,
            size: UInt64(clamping: status.st_size), blocks: UInt64(clamping: status.st_blocks),
            device: UInt64(status.st_rdev), accessed: Timestamp(status.st_atim), modified: Timestamp(status.st_mtim),
            changed: Timestamp(status.st_ctim), isUpper: true)
    }
}

extension Timestamp {
    init(_ time: timespec) { self.init(seconds: Int64(time.tv_sec), nanoseconds: UInt32(time.tv_nsec)) }

    static var now: Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(time)
    }

    var asTimespec: timespec { timespec(tv_sec: Int(seconds), tv_nsec: Int(min(nanoseconds, 999_999_999))) }
}
