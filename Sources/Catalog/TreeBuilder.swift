package import MCFSCore

/// Collects entries in any order and makes a `Tree` of them. Missing parent directories are implicit (0755, owned by root).
/// A path that comes twice: the last one wins, two directories become one.
package struct TreeBuilder {
    var hierarchy = Hierarchy()
    private var sources = SourceTable()
    /// Hard links that were added and not resolved yet, by their paths.
    private var hardLinks: [TreePath: TreePath] = [:]
    /// Counts the layers and merges: what is of an older generation may be replaced by a path that leads through it.
    private var generation: UInt32 = 0

    package init() {}

    /// - Returns: the index to use in `Content.source`.
    package mutating func addSource(_ source: SourceDescriptor) -> Int {
        sources.append(source)
        return sources.count - 1
    }

    /// - Throws: `corrupt` where a path leads through something that is no directory.
    package mutating func add(_ entry: TreeEntry) throws(MCFSError) {
        try place(entry, sourceBase: 0, sourceCount: sources.count)
    }

    /// Applies a layer on top of what is there: whiteouts, opaque directories, hard links into layers below. The entries'
    /// `Content.source` counts in `sources`.
    ///
    /// - Throws: `corrupt` for a hard link to nothing or to a directory, and where a path leads through something of the
    ///   same layer that is no directory.
    package mutating func apply(layer entries: [TreeEntry], sources: [SourceDescriptor]) throws(MCFSError) {
        try resolveHardLinks()
        let sourceBase = self.sources.count
        for source in sources { self.sources.append(source) }
        generation += 1

        // The layer's own hard links first: their targets below may be hidden by the same layer.
        var below: [TreePath: Int] = [:]
        for entry in entries {
            guard case .hardLink(let target) = entry.kind else { continue }
            if let node = hierarchy.find(target), let inode = hierarchy.inode(of: node) { below[target] = inode }
        }
        for entry in entries {
            guard case .whiteout = entry.kind else { continue }
            if entry.path.isRoot { throw MCFSError(.corrupt, "a whiteout of the layer names no entry") }
            hierarchy.remove(entry.path)
        }
        for entry in entries {
            guard case .opaque = entry.kind else { continue }
            let node = try hierarchy.directory(at: entry.path, generation: generation)
            hierarchy.removeChildren(of: node)
        }
        for entry in entries {
            switch entry.kind {
            case .whiteout, .opaque: continue
            default: try place(entry, sourceBase: sourceBase, sourceCount: sources.count)
            }
        }
        try resolveHardLinks(below: below)
    }

    /// Lays `tree` over what is there, below `directory`: later wins, folders merge.
    package mutating func merge(_ tree: Tree, at directory: TreePath) throws(MCFSError) {
        try resolveHardLinks()
        let sourceBase = sources.count
        sources.append(contentsOf: tree.sources)
        generation += 1
        var nodes: [Int] = []
        nodes.reserveCapacity(tree.count)
        var inodes: [Tree.Index: Int] = [:]
        for entry in 0..<Tree.Index(tree.count) {
            let attributes = tree.attributes(of: entry)
            let ownership = Ownership(attributes)
            guard entry != Tree.root else {
                let top = try hierarchy.directory(at: directory, generation: generation)
                hierarchy.set(ownership, of: top)
                nodes.append(top)
                continue
            }
            let parent = nodes[Int(tree.parent(of: entry))]
            let name = tree.withName(of: entry) { Array($0) }
            if attributes.kind == .directory {
                nodes.append(
                    try hierarchy.putDirectory(name, in: parent, ownership: ownership, generation: generation))
                continue
            }
            let representative = tree.inode(of: entry)
            let inode: Int
            if let known = inodes[representative] {
                inode = known
            } else {
                inode = try hierarchy.addInode(
                    Inode(leaf(of: tree, entry, attributes, sourceBase: sourceBase), ownership))
                if attributes.linkCount > 1 { inodes[representative] = inode }
            }
            nodes.append(try hierarchy.putLeaf(name, in: parent, inode: inode, generation: generation))
        }
    }

    /// Changes what is there, below `directory`, as somebody remembers to have changed it: each path of `marks` shows what
    /// another path had before, or nothing (nil). Parents stand before children. What is not there any more is left out.
    package mutating func rearrange(
        _ marks: [(path: TreePath, from: TreePath?)], at directory: TreePath
    ) throws(MCFSError) {
        try resolveHardLinks()
        generation += 1
        let moved = marks.map { $0.from.flatMap { hierarchy.find(directory.appending($0)) } }
        // All before any of them has its new place: some only change places.
        for case let node? in moved { hierarchy.remove(node) }
        for (mark, node) in zip(marks, moved) where !mark.path.isRoot {
            hierarchy.remove(directory.appending(mark.path))
            guard let node else { continue }
            let parent = try hierarchy.directory(
                at: directory.appending(mark.path.parent), generation: generation)
            try hierarchy.put(removed: node, mark.path.name, in: parent, generation: generation)
        }
    }

    /// Gives the entry at `path`, if there is one, other attributes; nil: as it was.
    package mutating func change(
        _ path: TreePath, permissions: UInt16?, uid: UInt32?, gid: UInt32?, modified: Timestamp?
    ) {
        guard let node = hierarchy.find(path), var ownership = hierarchy.ownership(of: node) else { return }
        ownership.permissions = permissions ?? ownership.permissions
        ownership.uid = uid ?? ownership.uid
        ownership.gid = gid ?? ownership.gid
        ownership.modified = modified ?? ownership.modified
        hierarchy.set(ownership, of: node)
    }

    /// - Throws: `corrupt` for a hard link to nothing.
    package consuming func build() throws(MCFSError) -> Tree {
        try resolveHardLinks()
        return try hierarchy.tree(sources: sources)
    }

    // MARK: - Placing

    private mutating func place(_ entry: TreeEntry, sourceBase: Int, sourceCount: Int) throws(MCFSError) {
        let ownership = Ownership(entry)
        guard entry.path.byteCount <= TreePath.bytesMax else {
            throw MCFSError(
                .corrupt,
                "'\(MCFSError.shown(entry.path.bytes))' is a longer path than the \(TreePath.bytesMax) bytes that can be opened"
            )
        }
        if entry.path.isRoot {
            guard case .directory = entry.kind else {
                throw MCFSError(.corrupt, "the root of the tree is listed as something that is no directory")
            }
            hierarchy.set(ownership, of: 0)
            return
        }
        let parent = try hierarchy.directory(at: entry.path.parent, generation: generation)
        let name = entry.path.name
        var leaf: Inode.Leaf
        switch entry.kind {
        case .directory:
            try hierarchy.putDirectory(name, in: parent, ownership: ownership, generation: generation)
            hardLinks[entry.path] = nil
            return
        case .file(var content):
            guard content.source >= 0, content.source < sourceCount else {
                throw MCFSError(.failed, "'\(entry.path)' has content of a source that was not added")
            }
            try OutsideNumber.check(byteCount: content.size, of: "'\(entry.path)'")
            guard content.isPossible else {
                throw MCFSError(.corrupt, "'\(entry.path)' is listed where no file can lie")
            }
            content.source += sourceBase
            leaf = .file(content)
        case .symlink(let target): leaf = .symlink(target)
        case .fifo: leaf = .fifo
        case .characterDevice(let major, let minor): leaf = .characterDevice(major, minor)
        case .blockDevice(let major, let minor): leaf = .blockDevice(major, minor)
        case .hardLink(let target):
            try hierarchy.putLeaf(name, in: parent, inode: nil, generation: generation)
            hardLinks[entry.path] = target
            return
        case .whiteout, .opaque:
            throw MCFSError(.corrupt, "'\(entry.path)' is a whiteout outside of a layer")
        }
        try hierarchy.putLeaf(
            name, in: parent, inode: try hierarchy.addInode(Inode(leaf, ownership)), generation: generation)
        if !hardLinks.isEmpty { hardLinks[entry.path] = nil }
    }

    /// Makes every pending hard link a name of its target's inode. `below`: what targets were before this layer.
    private mutating func resolveHardLinks(below: [TreePath: Int] = [:]) throws(MCFSError) {
        guard !hardLinks.isEmpty else { return }
        let pending = hardLinks
        hardLinks = [:]
        for start in pending.keys {
            // A link whose place something else took since is gone.
            guard let first = hierarchy.find(start), hierarchy.isPending(first) else { continue }
            var chain = [first]
            var path = start
            let inode: Int
            while true {
                guard let target = pending[path] else { throw danglingHardLink(start, path) }
                let node = hierarchy.find(target)
                if let node, let found = hierarchy.inode(of: node) {
                    inode = found
                    break
                }
                if let node, hierarchy.isPending(node), chain.count <= pending.count, target != path {
                    chain.append(node)
                    path = target
                    continue
                }
                guard let found = below[target] else { throw danglingHardLink(start, target) }
                inode = found
                break
            }
            for node in chain { hierarchy.set(inode, of: node) }
        }
    }

    private func danglingHardLink(_ link: TreePath, _ target: TreePath) -> MCFSError {
        MCFSError(
            .corrupt,
            "'\(link)' is a hard link to '\(target)', which is not a file of the tree; the image or archive was made wrongly"
        )
    }
}

private func leaf(of tree: Tree, _ entry: Tree.Index, _ attributes: Tree.Attributes, sourceBase: Int) -> Inode.Leaf {
    switch attributes.kind {
    case .file, .directory:
        guard var content = tree.content(of: entry) else { return .fifo }
        content.source += sourceBase
        return .file(content)
    case .symlink: return .symlink(tree.target(of: entry))
    case .fifo: return .fifo
    case .characterDevice:
        return .characterDevice(tree.columns.first[Int(entry)], tree.columns.second[Int(entry)])
    case .blockDevice: return .blockDevice(tree.columns.first[Int(entry)], tree.columns.second[Int(entry)])
    }
}

extension Ownership {
    fileprivate init(_ entry: TreeEntry) {
        self.init(permissions: entry.permissions, uid: entry.uid, gid: entry.gid, modified: entry.modified)
    }

    fileprivate init(_ attributes: Tree.Attributes) {
        self.init(
            permissions: attributes.permissions, uid: attributes.uid, gid: attributes.gid,
            modified: attributes.modified)
    }
}
