internal import MCFSCore

/// What entries of every kind have.
struct Ownership {
    var permissions: UInt16 = 0o755
    var uid: UInt32 = 0
    var gid: UInt32 = 0
    var modified = Timestamp(seconds: 0)
}

/// Anything but a directory. Hard links share one.
struct Inode {
    enum Leaf {
        case file(Content)
        case symlink([UInt8])
        case fifo
        case characterDevice(UInt32, UInt32)
        case blockDevice(UInt32, UInt32)
    }

    var leaf: Leaf
    var ownership: Ownership

    init(_ leaf: Leaf, _ ownership: Ownership) {
        self.leaf = leaf
        self.ownership = ownership
    }
}

/// The directories and names of a tree that is being made: a hundred bytes an entry, whatever their number. Nodes are
/// numbered as they come and never reused; what was replaced or removed is merely gone. The root is node 0.
struct Hierarchy {
    private struct Node {
        var parent: UInt32
        var nameStart: UInt32
        /// The child of the same directory that came before.
        var sibling = Hierarchy.none
        /// Directory: the child that came last.
        var lastChild = Hierarchy.none
        /// None for a hard link whose target is not known yet.
        var inode: UInt32
        var generation: UInt32
        var nameCount: UInt8
        var isDirectory: Bool
        var isGone = false

        var name: Range<Int> { Int(nameStart)..<Int(nameStart) + Int(nameCount) }

        func withName<R>(in names: [UInt8], _ body: (UnsafeRawBufferPointer) -> R) -> R {
            names.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[name])) }
        }
    }

    /// As `Tree` has it: what `first` and `second` are depends on the kind.
    private struct StoredInode {
        var ownership: Ownership
        var kind: Tree.Kind
        var first: UInt32 = 0
        var second: UInt32 = 0
    }

    private static let none = UInt32.max

    private var nodes: [Node]
    private var inodes: [StoredInode]
    private var names: [UInt8] = []
    private var targets: [UInt8] = []
    /// Each once.
    private var contents: [Content] = []
    /// Nodes by parent and name, contents by what they are.
    private var children = NumberTable()
    private var contentNumbers = NumberTable()

    init() {
        nodes = [Node(parent: 0, nameStart: 0, inode: 0, generation: 0, nameCount: 0, isDirectory: true)]
        inodes = [StoredInode(ownership: Ownership(), kind: .directory)]
    }

    func find(_ path: TreePath) -> Int? {
        var node = 0
        for component in path.components {
            guard let child = child(component, of: node) else { return nil }
            node = child
        }
        return node
    }

    func isPending(_ node: Int) -> Bool { nodes[node].inode == Self.none }

    /// nil for a directory, and for a hard link whose target is not known yet.
    func inode(of node: Int) -> Int? {
        nodes[node].isDirectory || isPending(node) ? nil : Int(nodes[node].inode)
    }

    /// For a hard link whose target is known now.
    mutating func set(_ inode: Int, of node: Int) { nodes[node].inode = UInt32(inode) }

    /// The directory at `path`, made with its parents where it is missing or where something of an older generation is
    /// in the way.
    ///
    /// - Throws: `corrupt` where something of this generation that is no directory is in the way.
    mutating func directory(at path: TreePath, generation: UInt32) throws(MCFSError) -> Int {
        var node = 0
        for (depth, component) in path.components.enumerated() {
            if let child = child(component, of: node) {
                if nodes[child].isDirectory {
                    node = child
                    continue
                }
                guard nodes[child].generation < generation else {
                    var obstacle = path
                    obstacle.components.removeSubrange((depth + 1)...)
                    throw MCFSError(
                        .corrupt, "'\(obstacle)' is listed as a file and as a directory; the origin contradicts itself")
                }
            }
            node = try putNewDirectory(component, in: node, ownership: Ownership(), generation: generation)
        }
        return node
    }

    /// A directory that is there already keeps its children.
    @discardableResult
    mutating func putDirectory(
        _ name: [UInt8], in parent: Int, ownership: Ownership, generation: UInt32
    ) throws(MCFSError) -> Int {
        if let child = child(name, of: parent), nodes[child].isDirectory {
            set(ownership, of: child)
            nodes[child].generation = generation
            return child
        }
        return try putNewDirectory(name, in: parent, ownership: ownership, generation: generation)
    }

    /// `inode`: nil for a hard link whose target is not known yet.
    @discardableResult
    mutating func putLeaf(
        _ name: [UInt8], in parent: Int, inode: Int?, generation: UInt32
    ) throws(MCFSError) -> Int {
        try put(
            name, in: parent, inode: inode.map { UInt32($0) } ?? Self.none, generation: generation, isDirectory: false)
    }

    mutating func addInode(_ inode: Inode) throws(MCFSError) -> Int {
        var stored = StoredInode(ownership: inode.ownership, kind: .fifo)
        switch inode.leaf {
        case .file(let content):
            stored.kind = .file
            stored.first = UInt32(number(of: content))
        case .symlink(let target):
            stored.kind = .symlink
            guard let start = UInt32(exactly: targets.count), let count = UInt32(exactly: target.count) else {
                throw tooLarge
            }
            (stored.first, stored.second) = (start, count)
            targets += target
        case .fifo: break
        case .characterDevice(let major, let minor):
            (stored.kind, stored.first, stored.second) = (.characterDevice, major, minor)
        case .blockDevice(let major, let minor):
            (stored.kind, stored.first, stored.second) = (.blockDevice, major, minor)
        }
        return try add(stored)
    }

    mutating func remove(_ path: TreePath) {
        if let node = find(path) { remove(node) }
    }

    /// The root stays.
    mutating func remove(_ node: Int) { nodes[node].isGone = node != 0 }

    /// Puts what was removed, with all that is below, to a place where it takes the place of what has the name.
    mutating func put(
        removed node: Int, _ name: [UInt8], in parent: Int, generation: UInt32
    ) throws(MCFSError) {
        let moved = nodes[node]
        let number = try put(
            name, in: parent, inode: moved.inode, generation: generation, isDirectory: moved.isDirectory)
        nodes[number].lastChild = moved.lastChild
        nodes[node].lastChild = Self.none
        var child = moved.lastChild
        while child != Self.none {
            nodes[Int(child)].parent = UInt32(number)
            // What is gone could stand for another one of its name.
            if !nodes[Int(child)].isGone {
                addToChildren(Int(child), hash: nodes[Int(child)].withName(in: names) { Self.hash(number, $0) })
            }
            child = nodes[Int(child)].sibling
        }
    }

    func ownership(of node: Int) -> Ownership? {
        isPending(node) ? nil : inodes[Int(nodes[node].inode)].ownership
    }

    mutating func set(_ ownership: Ownership, of node: Int) { inodes[Int(nodes[node].inode)].ownership = ownership }

    mutating func removeChildren(of directory: Int) {
        var child = nodes[directory].lastChild
        while child != Self.none {
            nodes[Int(child)].isGone = true
            child = nodes[Int(child)].sibling
        }
        nodes[directory].lastChild = Self.none
    }

    // MARK: Nodes

    private func child(_ name: [UInt8], of directory: Int) -> Int? {
        name.withUnsafeBytes { name in
            lastChild(name, of: directory, hash: Self.hash(directory, name)).flatMap { nodes[$0].isGone ? nil : $0 }
        }
    }

    /// What had the name last, even if it is gone. `children` has no other of that name: a name that comes a million times
    /// must not be compared with a million.
    private func lastChild(_ name: UnsafeRawBufferPointer, of directory: Int, hash: Int) -> Int? {
        children.find(hash: hash) { node in
            let node = nodes[node]
            return node.parent == directory && Int(node.nameCount) == name.count
                && node.withName(in: names) { compare($0, name) == 0 }
        }
    }

    private mutating func putNewDirectory(
        _ name: [UInt8], in parent: Int, ownership: Ownership, generation: UInt32
    ) throws(MCFSError) -> Int {
        let inode = try add(StoredInode(ownership: ownership, kind: .directory))
        return try put(name, in: parent, inode: UInt32(inode), generation: generation, isDirectory: true)
    }

    /// Takes the place of what has the name.
    private mutating func put(
        _ name: [UInt8], in parent: Int, inode: UInt32, generation: UInt32, isDirectory: Bool
    ) throws(MCFSError) -> Int {
        let hash = name.withUnsafeBytes { Self.hash(parent, $0) }
        let old = name.withUnsafeBytes { lastChild($0, of: parent, hash: hash) }
        if let old { nodes[old].isGone = true }
        let number = nodes.count
        // The last number is the one that stands for none.
        guard number < Self.none, let start = UInt32(exactly: names.count) else { throw tooLarge }
        guard let count = UInt8(exactly: name.count) else {
            throw MCFSError(.corrupt, "a name of the tree is longer than \(TreePath.nameBytesMax) bytes")
        }
        names += name
        nodes.append(
            Node(
                parent: UInt32(parent), nameStart: start, sibling: nodes[parent].lastChild, inode: inode,
                generation: generation, nameCount: count, isDirectory: isDirectory))
        nodes[parent].lastChild = UInt32(number)
        if let old { children.replace(old, by: number, hash: hash) } else { addToChildren(number, hash: hash) }
        return number
    }

    private mutating func addToChildren(_ node: Int, hash: Int) {
        // `children` changes meanwhile, so `self` cannot be asked.
        let (all, pool) = (nodes, names)
        children.add(node, hash: hash) { number in
            all[number].withName(in: pool) { Self.hash(Int(all[number].parent), $0) }
        }
    }

    private mutating func add(_ inode: StoredInode) throws(MCFSError) -> Int {
        guard inodes.count < Self.none else { throw tooLarge }
        inodes.append(inode)
        return inodes.count - 1
    }

    private mutating func number(of content: Content) -> Int {
        if let known = contentNumbers.find(hash: content.hashValue, where: { contents[$0] == content }) { return known }
        contents.append(content)
        let all = contents
        contentNumbers.add(contents.count - 1, hash: content.hashValue) { all[$0].hashValue }
        return contents.count - 1
    }

    private static func hash(_ parent: Int, _ name: UnsafeRawBufferPointer) -> Int {
        var hasher = Hasher()
        hasher.combine(parent)
        hasher.combine(bytes: name)
        return hasher.finalize()
    }

    private var tooLarge: MCFSError {
        MCFSError(.unsupported, "the tree has more than 4 GiB of names or entries; mount a part of it")
    }
}

// MARK: - Making the tree

extension Hierarchy {
    /// - Throws: `unsupported` for a tree larger than its numbers can count.
    consuming func tree(sources: SourceTable) throws(MCFSError) -> Tree {
        var columns = TreeColumns()
        columns.reserve(nodes.count)
        // Nothing is found by name any more.
        children = NumberTable()
        contentNumbers = NumberTable()
        var order: [UInt32] = [0]
        order.reserveCapacity(nodes.count)
        var firstNames = [UInt32](repeating: Self.none, count: inodes.count)
        var numbers = [UInt32](repeating: Self.none, count: contents.count)
        columns.parents.append(0)
        columns.nameOffsets.append(0)
        var entry = 0
        while entry < order.count {
            let node = nodes[Int(order[entry])]
            guard node.inode != Self.none else { throw MCFSError(.failed, "a hard link was left without a target") }
            let inode = inodes[Int(node.inode)]
            columns.append(inode.kind, inode.ownership)
            if node.isDirectory {
                try appendChildren(of: node, UInt32(entry), to: &columns, &order)
            } else {
                columns.linkCounts.append(1)
                columns.first.append(inode.kind == .file ? number(of: inode, &numbers, in: &columns) : inode.first)
                columns.second.append(inode.second)
            }
            if firstNames[Int(node.inode)] == Self.none { firstNames[Int(node.inode)] = UInt32(entry) }
            let first = firstNames[Int(node.inode)]
            columns.inodes.append(first)
            if first != entry { columns.linkCounts[Int(first)] += 1 }
            entry += 1
        }
        for entry in order.indices where columns.inodes[entry] != entry {
            columns.linkCounts[entry] = columns.linkCounts[Int(columns.inodes[entry])]
        }
        columns.targets = targets
        return Tree(columns: columns, sources: sources)
    }

    /// Contents get their numbers in the order of the tree.
    private func number(of inode: StoredInode, _ numbers: inout [UInt32], in columns: inout TreeColumns) -> UInt32 {
        let known = numbers[Int(inode.first)]
        if known != Self.none { return known }
        let number = UInt32(columns.contents.count)
        numbers[Int(inode.first)] = number
        columns.contents.append(contents[Int(inode.first)])
        return number
    }

    private func appendChildren(
        of node: Node, _ entry: UInt32, to columns: inout TreeColumns, _ order: inout [UInt32]
    ) throws(MCFSError) {
        let children = sortedChildren(of: node)
        guard UInt32(exactly: order.count + children.count) != nil else { throw tooLarge }
        columns.first.append(UInt32(order.count))
        columns.second.append(UInt32(children.count))
        var directories: UInt32 = 0
        for child in children {
            let node = nodes[Int(child)]
            if node.isDirectory { directories += 1 }
            columns.names += names[node.name]
            guard let end = UInt32(exactly: columns.names.count) else { throw tooLarge }
            columns.nameOffsets.append(end)
            columns.parents.append(entry)
        }
        order += children
        columns.linkCounts.append(2 + directories)
    }

    private func sortedChildren(of node: Node) -> [UInt32] {
        var result: [UInt32] = []
        var child = node.lastChild
        while child != Self.none {
            if !nodes[Int(child)].isGone { result.append(child) }
            child = nodes[Int(child)].sibling
        }
        // Most origins list in this order.
        result.reverse()
        names.withUnsafeBytes { names in
            func name(_ node: UInt32) -> UnsafeRawBufferPointer {
                UnsafeRawBufferPointer(rebasing: names[nodes[Int(node)].name])
            }
            if zip(result, result.dropFirst()).allSatisfy({ compare(name($0), name($1)) < 0 }) { return }
            result.sort { compare(name($0), name($1)) < 0 }
        }
        return result
    }
}

extension TreeColumns {
    fileprivate mutating func reserve(_ count: Int) {
        kinds.reserveCapacity(count)
        permissions.reserveCapacity(count)
        uids.reserveCapacity(count)
        gids.reserveCapacity(count)
        seconds.reserveCapacity(count)
        nanoseconds.reserveCapacity(count)
        nameOffsets.reserveCapacity(count + 1)
        parents.reserveCapacity(count)
        first.reserveCapacity(count)
        second.reserveCapacity(count)
        inodes.reserveCapacity(count)
        linkCounts.reserveCapacity(count)
    }

    fileprivate mutating func append(_ kind: Tree.Kind, _ ownership: Ownership) {
        kinds.append(kind.rawValue)
        permissions.append(ownership.permissions)
        uids.append(ownership.uid)
        gids.append(ownership.gid)
        seconds.append(ownership.modified.seconds)
        nanoseconds.append(ownership.modified.nanoseconds)
    }
}
