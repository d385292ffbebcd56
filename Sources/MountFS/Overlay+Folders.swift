internal import CLinux
internal import Catalog
internal import Glibc
internal import MCFSCore
internal import Upper

/// Directories of the tree that come to be in the upper, and nodes that are wanted there.
extension Overlay {
    /// Makes the directory in the upper, with all above it, where it is not there yet. No folder's lock is held.
    func makeFolder(_ node: Node) throws(Errno) -> UpperFolder {
        var missing: [Node] = []
        var next = node
        while true {
            let state = nodes.node(next.number)?.now
            if state?.isDirectory == false { throw .notDirectory }
            if state?.isRemoved == true { throw .noEntry }
            if let folder = state?.folder, folder.isOnDisk {
                guard let last = missing.popLast() else { return folder }
                _ = try makeFolder(last, in: folder, next)
                next = node
                missing = []
                continue
            }
            let entry = try entry(of: next)
            guard tree.attributes(of: entry).kind == .directory else { throw .notDirectory }
            missing.append(next)
            next = state?.parent.map { Node(number: $0) } ?? Node(entry: tree.parent(of: entry))
        }
    }

    private func makeFolder(_ node: Node, in parent: UpperFolder, _ parentNode: Node) throws(Errno) {
        let entry = try entry(of: node)
        try upper.settle()
        let work = try upper.workPlace()
        var isPut = false
        defer { if !isPut { upper.discard(work) } }
        // Made before anybody is held up: a disk that does not answer keeps nobody from looking.
        _ = try retryingOnInterrupt { work.name.withTerminated { mkdirat(work.folder.rawValue, $0, 0o700) } }
        let made = UpperObject.name(work.name, in: work.folder)
        let attributes = lower.attributes(of: entry)
        if isRoot { try dress(made, as: attributes) }
        let identity = DiskIdentity(try made.status())
        try holding([parent]) { () throws(Errno) in
            // Asked again: somebody may have made it, moved it or removed it.
            let state = nodes.node(node.number)?.now
            if state?.isRemoved == true || state?.folder?.isOnDisk == true { return }
            guard state?.parent.map({ $0 == parentNode.number }) != false, parent.isOnDisk else { return }
            let name = state?.folder?.name ?? tree.withName(of: entry) { Array($0) }
            try keepingTimes(of: parent) { () throws(Errno) in try upper.put(work, name, in: parent) }
            isPut = true
            // Who is not root can move only what they may write to (rename(2)).
            if !isRoot { try dress(try upper.object(name, in: parent), as: attributes) }
            let folder = parent.folder(name)
            folder.identity = identity
            nodes.become(
                .upperDirectory(identity, folder: folder, shows: entry, parent: parentNode.number), ofEntry: node)
        }
    }

    /// Where something of the tree is to be forgotten: the directory in the upper; on a full disk what is remembered of it
    /// alone, since who deletes wants room.
    func folderToForgetIn(_ node: Node) throws(Errno) -> UpperFolder {
        do throws(Errno) { return try makeFolder(node) } catch {
            guard error == .noSpace || error == .quota else { throw error }
        }
        var missing: Tree.Index?
        var next = node
        while true {
            let state = nodes.node(next.number)?.now
            if state?.isRemoved == true { throw .noEntry }
            if let folder = state?.folder {
                guard let entry = missing else { return folder }
                try rememberFolder(of: entry, in: folder, next)
                missing = nil
                next = node
                continue
            }
            let entry = try entry(of: next)
            missing = entry
            next = Node(entry: tree.parent(of: entry))
        }
    }

    private func rememberFolder(of entry: Tree.Index, in parent: UpperFolder, _ parentNode: Node) throws(Errno) {
        try holding([parent]) { () throws(Errno) in
            // Asked again, as for a directory that is made.
            let node = Node(entry: entry)
            guard nodes.node(parentNode.number)?.now.folder === parent, nodes.node(node.number)?.now.folder == nil
            else { return }
            let own = parent.folder(tree.withName(of: entry) { Array($0) })
            nodes.become(.treeDirectory(entry, folder: own, parent: parentNode.number), ofEntry: node)
        }
    }

    /// Gives something that was just made the owner, mode and times of what it stands for.
    func dress(_ object: UpperObject, as attributes: NodeAttributes) throws(Errno) {
        // A user cannot give files away; the mount shows all of the tree as the user's own then.
        if isRoot { try object.setOwner(attributes.uid, attributes.gid) }
        if attributes.kind != .symlink { try object.setPermissions(attributes.permissions) }
        try object.setTimes(accessed: attributes.accessed.asTimespec, modified: attributes.modified.asTimespec)
    }

    /// What a copy does to the directory that it is put in is no change of that directory.
    func keepingTimes(of folder: UpperFolder, _ body: () throws(Errno) -> Void) throws(Errno) {
        let object = UpperObject.descriptor(try upper.descriptor(of: folder))
        let status = try object.status()
        // A user may change what is in a directory of theirs that they may not write to: it is no change of it.
        let isClosed = !isRoot && status.st_mode & 0o300 != 0o300
        if isClosed { try object.setPermissions(UInt16(status.st_mode & 0o7777) | 0o700) }
        defer { if isClosed { try? object.setPermissions(UInt16(status.st_mode & 0o7777)) } }
        try body()
        try? object.setTimes(accessed: status.st_atim, modified: status.st_mtim)
    }

    /// The node of what is in the upper.
    func upperNode(_ node: Node) throws(Errno) -> OverlayNode {
        guard let known = nodes.node(node.number), known.now.isUpper else { throw .stale }
        return known
    }
}
