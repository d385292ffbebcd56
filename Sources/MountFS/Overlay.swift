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
/// Locks: each folder of the upper has one for the names in it (`UpperFolder.names`), as each directory of a local file
/// system does: held for reading by who looks and for writing by who changes them, also while the disk of the upper is
/// at it, never for the network. So no change in one directory holds up who looks at another. A directory that nobody
/// touched has none and needs none. Reads and writes of open files take no lock of these, nor do attributes: `reaching`.
/// What is remembered is changed under `UpperDirectory.alone`, which is taken after the folders. The locks of `NodeTable`,
/// `OverlayNode`, `OpenFiles` and `LowerTree` are taken below all others, one at a time, for a few lines.
///
/// Errors are the errno that the caller shall see. ESTALE makes the kernel look the name up once more.
package final class Overlay: MountedFiles {
    package let upper: UpperDirectory
    let lower: LowerTree
    let openFiles: OpenFiles
    /// Held for reading by who changes something, for writing by who ends that, or goes back to the tree.
    private let gate = ReadWriteLock()
    /// Held for reading while a file of the tree is being opened, for writing while it becomes one of the upper.
    let switching = ReadWriteLock()
    let nodes: NodeTable
    let listings = Lock<[UInt64: Listed]>([:])
    let listingCount = Lock<UInt64>(0)
    private let isClosed = Atomic<Bool>(false)
    /// Who goes back to the tree, one at a time.
    let resets = Lock(())
    /// Directories that a reset emptied, and could not remove.
    let emptied = Lock<[UpperFolder]>([])
    /// Whether the daemon can make files for others.
    let isRoot = geteuid() == 0

    init(_ lower: LowerTree, _ upper: UpperDirectory, _ openFiles: OpenFiles) {
        self.lower = lower
        self.upper = upper
        self.openFiles = openFiles
        nodes = NodeTable(device: upper.device)
        let root = nodes.node(entryNumber: Node.root.number) { [upper] in
            OverlayNode(
                number: Node.root.number, inode: Node.root.number,
                upper.root.identity.map {
                    .upperDirectory($0, folder: upper.root, shows: Tree.root, parent: Node.root.number)
                } ?? .treeDirectory(Tree.root, folder: upper.root, parent: Node.root.number))
        }
        if let identity = upper.root.identity { nodes.identify(root, as: identity) }
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
                case .lower(let entry, _): directory = try? self.directory(Node(entry: entry))
                }
            }
        }
    }

    /// Runs `body`, which changes something, unless the mount is over.
    func changing<Result>(_ body: () throws(Errno) -> Result) throws(Errno) -> Result {
        try gate.reading { () throws(Errno) in
            if isClosed.load(ordering: .relaxed) { throw .notConnected }
            return try body()
        }
    }

    /// Runs `body` while nobody else changes anything, unless the mount is over. Who looks goes on.
    func changingAlone<Result>(_ body: () throws(Errno) -> Result) throws(Errno) -> Result {
        try gate.writing { () throws(Errno) in
            if isClosed.load(ordering: .relaxed) { throw .notConnected }
            return try body()
        }
    }

    /// Runs `body`, which looks at names and holds no lock yet; again where it met nodes that are not yet what a reset makes
    /// of them: the kernel asks once more by itself, and may meet the same.
    func lookingAgain<Result>(_ body: () throws(Errno) -> Result) throws(Errno) -> Result {
        for _ in 1...3 {
            do throws(Errno) { return try body() } catch {
                guard error == .stale else { throw error }
                gate.reading {}
            }
        }
        return try body()
    }

    /// Runs `body` with a directory while nobody changes names in it.
    func looking<Result>(
        in node: Node, _ body: (Directory) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        var directory = try directory(node)
        while let folder = directory.folder {
            let result = try folder.names.reading { () throws(Errno) -> Result? in
                directory = try self.directory(node)
                return directory.folder === folder ? try body(directory) : nil
            }
            if let result { return result }
        }
        return try body(directory)
    }

    /// Runs `body`, which changes names in the folders, while nobody else looks at names there.
    func holding<Result>(
        _ folders: [UpperFolder], _ body: () throws(Errno) -> Result
    ) throws(Errno) -> Result {
        var ordered = folders.sorted { $0.number < $1.number }[...]
        func next() throws(Errno) -> Result {
            guard let folder = ordered.popFirst() else { return try body() }
            while ordered.first === folder { ordered.removeFirst() }
            return try folder.names.writing(next)
        }
        return try next()
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
        return try lookingAgain { () throws(Errno) in
            try looking(in: directory) { (parent) throws(Errno) in
                guard let found = try find(name, in: parent) else {
                    name.withUnsafeBytes { lower.view.missed($0, in: path(of: parent)) }
                    return nil
                }
                if case .upper(let node, _) = found { nodes.count(node) }
                return attributes(of: found)
            }
        }
    }

    /// The kernel has forgotten a node so often. - Returns: whether the node is gone.
    package func forget(_ node: Node, _ count: UInt64) -> Bool { nodes.forget(node.number, count) }

    package func attributes(of node: Node) throws(Errno) -> NodeAttributes {
        while true {
            if let known = nodes.node(node.number), known.now.isUpper {
                return attributes(of: known, try status(of: known))
            }
            let attributes = lower.attributes(of: try entry(of: node))
            // What is remembered of a file is forgotten once it is in the upper.
            if nodes.node(node.number)?.now.isUpper != true { return attributes }
        }
    }

    /// Of a node that was just copied: ESTALE where the copy is another node.
    package func attributes(ofUpper node: Node) throws(Errno) -> NodeAttributes {
        let known = try upperNode(node)
        return attributes(of: known, try status(of: known))
    }

    package func readLink(_ node: Node) throws(Errno) -> [UInt8] {
        if let known = nodes.node(node.number), known.now.isUpper { return try object(of: known).linkTarget() }
        let entry = try entry(of: node)
        guard tree.attributes(of: entry).kind == .symlink else { throw .invalid }
        return tree.target(of: entry)
    }

    /// Nothing changes in the upper from now on: another mount may have it.
    package func close() {
        gate.writing {
            isClosed.store(true, ordering: .relaxed)
            upper.close()
        }
    }

    package func usage() throws(Errno) -> statvfs { try upper.usage() }

    // MARK: Looking, under the folder's lock

    func entry(of node: Node) throws(Errno) -> Tree.Index {
        guard let entry = node.entry(count: tree.count) else { throw .stale }
        return entry
    }

    func directory(_ node: Node) throws(Errno) -> Directory {
        if let state = nodes.node(node.number)?.now {
            guard state.isDirectory else { throw .notDirectory }
            // Nothing is in one that was removed, and nothing can be made in it.
            return Directory(number: node.number, lower: state.shown, folder: state.folder)
        }
        let entry = try entry(of: node)
        guard tree.attributes(of: entry).kind == .directory else { throw .notDirectory }
        return Directory(number: node.number, lower: entry, folder: nil)
    }

    func isHidden(_ name: [UInt8], in directory: Directory) -> Bool {
        directory.number == Node.root.number && name == UpperLayout.hiddenName
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
            while true {
                let node = nodes.node(identity) { number, inode in
                    OverlayNode(number: number, inode: inode, .upperFile(OverlayNode.UpperFile(identity: identity)))
                }
                node.updateFile { _ = $0.places.insert(Place(folder: folder, name: name)) }
                // Who takes its number from it looks at its names after that.
                if NodeTable.isDynamic(node.number) || nodes.isFound(node, as: identity) { return node }
            }
        }
        if let known = nodes.node(identity) { return known }
        var below = lowerEntry(name, in: directory)
        if let entry = below, tree.attributes(of: entry).kind != .directory { below = nil }
        let own = folder.folder(name)
        own.identity = identity
        let state = OverlayNode.State.upperDirectory(identity, folder: own, shows: below, parent: directory.number)
        guard let below else {
            return nodes.node(identity) { number, inode in OverlayNode(number: number, inode: inode, state) }
        }
        return nodes.become(state, ofEntry: Node(entry: below))
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
                    number: number, inode: number,
                    .treeDirectory(entry, folder: folder.folder(name), parent: directory.number))
            }
        }
        return isMoved ? movedFile(entry, to: Place(folder: folder, name: name)) : nil
    }

    /// The node of a file of the tree that has its name elsewhere.
    @discardableResult
    func movedFile(_ entry: Tree.Index, to place: Place) -> OverlayNode {
        let number = Node(entry: tree.inode(of: entry)).number
        let node = nodes.node(entryNumber: number) {
            OverlayNode(number: number, inode: number, .movedFile(place))
        }
        node.move(to: place)
        return node
    }

    // MARK: What a node is in the upper

    /// Runs `body` with what a node is in the upper, under a name of it or by a descriptor that holds it. Takes no lock, so
    /// that no change in the folder holds it up: whether `body` reached what it should is known afterwards.
    ///
    /// - Parameters:
    ///   - waits: for who is changing names in its folder, where that is to be known; else ESTALE then.
    ///   - body: also returns which object it was.
    private func reaching<Result>(
        _ node: OverlayNode, waits: Bool = true, _ body: (UpperObject) throws(Errno) -> (Result, DiskIdentity)
    ) throws(Errno) -> Result {
        if case .upper(let descriptor) = openFiles.known(node.number) { return try body(.descriptor(descriptor)).0 }
        switch node.now {
        case .movedFile, .treeDirectory: throw .stale
        case .upperDirectory(_, let folder, _, _): return try body(.descriptor(try upper.descriptor(of: folder))).0
        case .removedDirectory(_, let anchor, _):
            guard let anchor else { throw .stale }
            return try body(.descriptor(anchor)).0
        case .upperFile(let file):
            guard let place = node.place else {
                guard let anchor = file.anchor else { throw .stale }
                return try body(.descriptor(anchor)).0
            }
            do throws(Errno) {
                let (result, identity) = try body(try upper.object(place.name, in: place.folder))
                if identity == file.identity { return result }
            } catch {
                guard error == .noEntry else { throw error }
            }
        }
        // Its name was just taken from it, or given to another: now, or when whoever is at it is done.
        if !waits { throw .stale }
        return try reachingLocked(node, body)
    }

    private func reachingLocked<Result>(
        _ node: OverlayNode, _ body: (UpperObject) throws(Errno) -> (Result, DiskIdentity)
    ) throws(Errno) -> Result {
        while let place = node.place {
            let result = try place.folder.names.reading { () throws(Errno) -> Result? in
                node.has(place) ? try body(try upper.object(place.name, in: place.folder)).0 : nil
            }
            if let result { return result }
        }
        guard case .upperFile(let file) = node.now, let anchor = file.anchor else { throw .stale }
        return try body(.descriptor(anchor)).0
    }

    func status(of node: OverlayNode) throws(Errno) -> stat {
        try reaching(node) { (object) throws(Errno) in
            let status = try object.status()
            return (status, DiskIdentity(status))
        }
    }

    /// What a node is in the upper, open, whatever becomes of its names.
    func openDescriptor(
        of node: OverlayNode, _ flags: CInt, waits: Bool = true
    ) throws(Errno) -> OwnedDescriptor {
        try reaching(node, waits: waits) { (object) throws(Errno) in
            let file = try object.open(flags)
            return (file, DiskIdentity(try UpperObject.descriptor(file).status()))
        }
    }

    /// How to reach what a node is in the upper.
    func object(of node: OverlayNode) throws(Errno) -> UpperObject {
        try reaching(node) { (object) throws(Errno) in
            let held = if case .descriptor(let held) = object { held } else { try object.open(mcfs_o_path) }
            return (.descriptor(held), DiskIdentity(try UpperObject.descriptor(held).status()))
        }
    }

    // MARK: Attributes

    func attributes(of found: Found) -> NodeAttributes {
        switch found {
        case .upper(let node, let status): attributes(of: node, status)
        case .lower(let entry, _): lower.attributes(of: entry)
        }
    }

    func attributes(of node: OverlayNode, _ status: stat) -> NodeAttributes {
        var attributes = NodeAttributes(status, node: Node(number: node.number), inode: node.inode)
        guard attributes.kind == .directory else { return attributes }
        if let entry = attributes.node.entry(count: tree.count) {
            attributes.generation = lower.generation(of: entry)
        }
        let state = node.now
        // Subdirectories of the tree are not counted on the disk; 1 says "not known", as other file systems do.
        if state.shown != nil { attributes.linkCount = 1 }
        if state.isRemoved { attributes.linkCount = 0 }
        return attributes
    }
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
    init(_ time: timespec) { self.init(seconds: Int64(time.tv_sec), nanoseconds: UInt32(clamping: time.tv_nsec)) }

    static var now: Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(time)
    }

    var asTimespec: timespec { timespec(tv_sec: Int(seconds), tv_nsec: Int(min(nanoseconds, 999_999_999))) }
}
