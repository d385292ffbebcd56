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

/// The directories and names of a tree that is being made. Nodes are numbered as they come and never reused; what was
/// replaced or removed is merely not reachable from the root, node 0, any more.
struct Hierarchy {
    struct Node {
        enum Body {
            case directory
            /// The number of an inode; nil for a hard link whose target is not known yet.
            case leaf(Int?)
        }

        var body: Body
        var generation: UInt32
        /// Directories only.
        var ownership = Ownership()
        /// Directories only.
        var children: [[UInt8]: Int] = [:]

        var isDirectory: Bool {
            if case .directory = body { true } else { false }
        }

        var inode: Int? {
            if case .leaf(let inode) = body { inode } else { nil }
        }

        var isPending: Bool {
            if case .leaf(nil) = body { true } else { false }
        }
    }

    var nodes = [Node(body: .directory, generation: 0)]
    private var inodes: [Inode] = []

    func find(_ path: TreePath) -> Int? {
        var node = 0
        for component in path.components {
            guard let child = nodes[node].children[component] else { return nil }
            node = child
        }
        return node
    }

    /// The directory at `path`, made with its parents where it is missing or where something of an older generation is
    /// in the way.
    ///
    /// - Throws: `corrupt` where something of this generation that is no directory is in the way.
    mutating func directory(at path: TreePath, generation: UInt32) throws(MCFSError) -> Int {
        var node = 0
        for (depth, component) in path.components.enumerated() {
            if let child = nodes[node].children[component] {
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
            node = put(Node(body: .directory, generation: generation), component, in: node)
        }
        return node
    }

    /// A directory that is there already keeps its children.
    @discardableResult
    mutating func putDirectory(_ name: [UInt8], in parent: Int, ownership: Ownership, generation: UInt32) -> Int {
        if let child = nodes[parent].children[name], nodes[child].isDirectory {
            nodes[child].ownership = ownership
            nodes[child].generation = generation
            return child
        }
        return put(Node(body: .directory, generation: generation, ownership: ownership), name, in: parent)
    }

    @discardableResult
    mutating func putLeaf(_ name: [UInt8], in parent: Int, inode: Int?, generation: UInt32) -> Int {
        put(Node(body: .leaf(inode), generation: generation), name, in: parent)
    }

    mutating func addInode(_ inode: Inode) -> Int {
        inodes.append(inode)
        return inodes.count - 1
    }

    mutating func remove(_ path: TreePath) {
        guard let parent = find(path.parent) else { return }
        nodes[parent].children[path.name] = nil
    }

    private mutating func put(_ node: Node, _ name: [UInt8], in parent: Int) -> Int {
        nodes.append(node)
        nodes[parent].children[name] = nodes.count - 1
        return nodes.count - 1
    }
}

// MARK: - Making the tree

extension Hierarchy {
    /// - Throws: `unsupported` for a tree larger than its numbers can count.
    func tree(sources: [SourceDescriptor]) throws(MCFSError) -> Tree {
        var columns = TreeColumns()
        var order = [0]
        var firstNames = [Int?](repeating: nil, count: inodes.count)
        var contentNumbers: [Content: UInt32] = [:]
        columns.parents.append(0)
        columns.nameOffsets.append(0)
        var entry = 0
        while entry < order.count {
            let node = nodes[order[entry]]
            var inode = entry
            switch node.body {
            case .directory:
                try appendChildren(of: node, entry, to: &columns, &order)
                columns.append(.directory, node.ownership)
            case .leaf(let number):
                guard let number else { throw MCFSError(.failed, "a hard link was left without a target") }
                inode = firstNames[number] ?? entry
                firstNames[number] = inode
                try append(inodes[number], to: &columns, &contentNumbers)
            }
            columns.inodes.append(UInt32(inode))
            if inode != entry { columns.linkCounts[inode] += 1 }
            entry += 1
        }
        for entry in order.indices where columns.inodes[entry] != entry {
            columns.linkCounts[entry] = columns.linkCounts[Int(columns.inodes[entry])]
        }
        return Tree(columns: columns, sources: sources)
    }

    private func appendChildren(
        of node: Node, _ entry: Int, to columns: inout TreeColumns, _ order: inout [Int]
    ) throws(MCFSError) {
        let children = node.children.sorted { a, b in
            a.key.withUnsafeBytes { a in b.key.withUnsafeBytes { b in compare(a, b) < 0 } }
        }
        guard UInt32(exactly: order.count + children.count) != nil else { throw tooLarge() }
        columns.first.append(UInt32(order.count))
        columns.second.append(UInt32(children.count))
        var directories: UInt32 = 0
        for (name, child) in children {
            order.append(child)
            if nodes[child].isDirectory { directories += 1 }
            columns.names += name
            guard let end = UInt32(exactly: columns.names.count) else { throw tooLarge() }
            columns.nameOffsets.append(end)
            columns.parents.append(UInt32(entry))
        }
        columns.linkCounts.append(2 + directories)
    }

    private func append(
        _ inode: Inode, to columns: inout TreeColumns, _ contentNumbers: inout [Content: UInt32]
    ) throws(MCFSError) {
        columns.linkCounts.append(1)
        var first: UInt32 = 0
        var second: UInt32 = 0
        let kind: Tree.Kind
        switch inode.leaf {
        case .file(let content):
            kind = .file
            if let known = contentNumbers[content] {
                first = known
            } else {
                first = UInt32(columns.contents.count)
                contentNumbers[content] = first
                columns.contents.append(content)
            }
        case .symlink(let target):
            kind = .symlink
            guard let start = UInt32(exactly: columns.targets.count), let count = UInt32(exactly: target.count) else {
                throw tooLarge()
            }
            (first, second) = (start, count)
            columns.targets += target
        case .fifo: kind = .fifo
        case .characterDevice(let major, let minor): (kind, first, second) = (.characterDevice, major, minor)
        case .blockDevice(let major, let minor): (kind, first, second) = (.blockDevice, major, minor)
        }
        columns.first.append(first)
        columns.second.append(second)
        columns.append(kind, inode.ownership)
    }

    private func tooLarge() -> MCFSError {
        MCFSError(.unsupported, "the tree has more than 4 GiB of names or entries; mount a part of it")
    }
}

extension TreeColumns {
    fileprivate mutating func append(_ kind: Tree.Kind, _ ownership: Ownership) {
        kinds.append(kind.rawValue)
        permissions.append(ownership.permissions)
        uids.append(ownership.uid)
        gids.append(ownership.gid)
        seconds.append(ownership.modified.seconds)
        nanoseconds.append(ownership.modified.nanoseconds)
    }
}
