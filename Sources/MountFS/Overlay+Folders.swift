internal import CLinux
internal import Catalog
internal import Glibc
internal import MCFSCore
internal import Upper

/// Directories of the tree that come to be in the upper, and nodes that are wanted there.
extension Overlay {
    /// Makes the directory in the upper, with all above it, where it is not there yet. Under the lock, for writing.
    func makeFolder(_ directory: Directory) throws(Errno) -> UpperFolder {
        // Asked again: it may have come to be since the directory was looked up.
        let known = nodes.node(directory.number)?.now
        if let folder = known?.folder, folder.isOnDisk { return folder }
        if known?.isRemoved == true { throw .noEntry }
        guard let entry = directory.lower else { throw .stale }
        let parentNumber = known?.parent ?? Node(entry: tree.parent(of: entry)).number
        let parent = try makeFolder(try self.directory(Node(number: parentNumber)))
        let name = directory.folder?.name ?? tree.withName(of: entry) { Array($0) }
        let folder = parent.folder(name)

        let work = try upper.workPlace()
        do throws(Errno) {
            _ = try retryingOnInterrupt { work.name.withTerminated { mkdirat(work.folder.rawValue, $0, 0o700) } }
            let made = UpperObject.name(work.name, in: work.folder)
            let attributes = lower.attributes(of: entry)
            if isRoot { try dress(made, as: attributes) }
            let status = try made.status()
            try keepingTimes(of: parent) { () throws(Errno) in try upper.put(work, name, in: parent) }
            // Who is not root can move only what they may write to (rename(2)).
            if !isRoot { try dress(try upper.object(name, in: parent), as: attributes) }
            folder.isOnDisk = true
            let number = directory.number
            let node = nodes.node(entryNumber: number) {
                OverlayNode(
                    number: number, inode: number, isDirectory: true,
                    OverlayNode.State(lower: entry, folder: folder, parent: parentNumber))
            }
            node.update { $0.folder = folder }
            nodes.identify(node, as: DiskIdentity(status))
            return folder
        } catch {
            upper.discard(work)
            throw error
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

    /// The node of what is in the upper. Under the lock.
    func upperNode(_ node: Node) throws(Errno) -> OverlayNode {
        guard let known = nodes.node(node.number), known.now.isUpper else { throw .stale }
        return known
    }
}
