internal import CLinux
internal import Catalog
internal import Glibc
package import MCFSCore
internal import Upper

/// Making, deleting and renaming names.
extension Overlay {
    package func make(
        _ making: Making, _ name: [UInt8], in parent: Node, by caller: Caller
    ) throws(Errno) -> NodeAttributes {
        try changing { () throws(Errno) in
            try self.making(name, in: parent) { (directory, folder) throws(Errno) in
                let descriptor = try upper.descriptor(of: folder)
                func make() throws(Errno) {
                    try asOwner(caller) { () throws(Errno) in
                        _ = try retryingOnInterrupt {
                            name.withTerminated { name in
                                switch making {
                                case .directory(let permissions):
                                    mkdirat(descriptor.rawValue, name, mode(permissions, caller, folder))
                                case .symlink(let target):
                                    target.withTerminated { symlinkat($0, descriptor.rawValue, name) }
                                case .node(let mode, let device):
                                    mknodat(
                                        descriptor.rawValue, name,
                                        mode & S_IFMT | self.mode(UInt16(mode & 0o7777), caller, folder), dev_t(device))
                                }
                            }
                        }
                    }
                }
                // A hidden directory of the tree does not become part of one that is made in its place.
                if case .directory = making, folder.mark(name) == nil, naturalEntry(name, in: directory) != nil {
                    try upper.cover(name, in: folder, make)
                } else {
                    try make()
                }
                let made = try shown(name, in: directory, folder)
                if case .directory = making, folder.hasDefaultAccessList == false {
                    folder.folder(name).hasDefaultAccessList = false
                }
                return made
            }
        }
    }

    /// Makes a file and opens it.
    package func create(
        _ name: [UInt8], permissions: UInt16, in parent: Node, by caller: Caller
    ) throws(Errno) -> (attributes: NodeAttributes, file: OwnedDescriptor) {
        try changing { () throws(Errno) in
            try making(name, in: parent) { (directory, folder) throws(Errno) in
                let descriptor = try upper.descriptor(of: folder)
                let file = try asOwner(caller) { () throws(Errno) in
                    try OwnedDescriptor.open(
                        bytes: name, at: descriptor, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW,
                        mode: UInt16(mode(permissions, caller, folder)))
                }
                let status = try file.status()
                return opened(file, status, node(status, name, in: directory, folder))
            }
        }
    }

    /// Makes a file without a name and opens it (`O_TMPFILE`).
    package func createUnnamed(
        permissions: UInt16, in parent: Node, by caller: Caller
    ) throws(Errno) -> (attributes: NodeAttributes, file: OwnedDescriptor) {
        try changing { () throws(Errno) in
            let folder = try makeFolder(parent)
            let descriptor = try upper.descriptor(of: folder)
            let file = try asOwner(caller) { () throws(Errno) in
                try OwnedDescriptor.open(
                    bytes: Array(".".utf8), at: descriptor, O_RDWR | mcfs_o_tmpfile,
                    mode: UInt16(mode(permissions, caller, folder)))
            }
            let status = try file.status()
            let unnamed = OverlayNode.UpperFile(identity: DiskIdentity(status), anchor: file)
            return opened(
                file, status,
                nodes.node(unnamed.identity) { OverlayNode(number: $0, inode: $1, .upperFile(unnamed)) })
        }
    }

    /// A file that was just made, counted as one look-up and one open.
    private func opened(
        _ file: OwnedDescriptor, _ status: stat, _ made: OverlayNode
    ) -> (attributes: NodeAttributes, file: OwnedDescriptor) {
        _ = openFiles.open(made.number) { .upper(file) }
        nodes.count(made)
        return (attributes(of: made, status), file)
    }

    /// Gives a file one more name. It must be in the upper: see `mustCopyUp`.
    package func link(_ node: Node, _ name: [UInt8], in parent: Node) throws(Errno) -> NodeAttributes {
        try changing { () throws(Errno) in
            let known = try upperNode(node)
            guard case .descriptor(let file) = try object(of: known) else { throw .stale }
            return try making(name, in: parent) { (directory, folder) throws(Errno) in
                let to = try upper.descriptor(of: folder)
                _ = try retryingOnInterrupt {
                    Array("/proc/self/fd/\(file.rawValue)".utf8).withTerminated { old in
                        name.withTerminated { linkat(AT_FDCWD, old, to.rawValue, $0, AT_SYMLINK_FOLLOW) }
                    }
                }
                let made = try shown(name, in: directory, folder)
                // It has a name now, which holds it.
                let anchor = known.updateFile { $0.anchor.take() }
                withExtendedLifetime(anchor) {}
                return made
            }
        }
    }

    /// - Parameter isDirectory: `rmdir(2)`, else `unlink(2)`.
    package func remove(_ name: [UInt8], in parent: Node, isDirectory: Bool) throws(Errno) {
        func checked(in directory: Directory) throws(Errno) -> Found {
            guard let found = try find(name, in: directory) else { throw .noEntry }
            let kind = attributes(of: found).kind
            if isDirectory != (kind == .directory) { throw isDirectory ? .notDirectory : .isDirectory }
            return found
        }
        try changing { () throws(Errno) in
            let folder: UpperFolder
            var below: UpperFolder?
            if !isDirectory, let known = try directory(parent).folder, known.isOnDisk {
                folder = known
            } else {
                let seen = try looking(in: parent) { (directory) throws(Errno) in try checked(in: directory) }
                folder = try seen.isUpper ? makeFolder(parent) : folderToForgetIn(parent)
                below = folderOf(seen)
            }
            try holding([folder] + (below.map { [$0] } ?? [])) { () throws(Errno) in
                let directory = try directory(parent)
                let found = try checked(in: directory)
                // Somebody was faster.
                guard directory.folder === folder, folderOf(found) === below else { throw .stale }
                if isDirectory { try checkEmpty(found, looksAtDisk: false) }
                let anchor = leave(found, Place(folder: folder, name: name))
                try upper.remove(
                    name, in: folder, isOnDisk: found.isUpper, isDirectory: isDirectory,
                    mark: mark(showing: nil, name, in: directory), metadata: metadataWithout(found))
                if !found.isUpper { touch(folder) }
                left(found, Place(folder: folder, name: name), anchor)
            }
        }
    }

    /// - Parameter flags: of renameat2(2).
    /// - Returns: nil where it is done; else the file that must be in the upper before: see `mustCopyUp`.
    package func rename(
        _ name: [UInt8], in parent: Node, to newName: [UInt8], in newParent: Node, flags: UInt32
    ) throws(Errno) -> Node? {
        let isExchange = flags & mcfs_rename_exchange != 0
        guard flags & ~(mcfs_rename_exchange | mcfs_rename_noreplace) == 0 else { throw .invalid }
        typealias Ends = (source: Found, target: Found?)
        func checked(_ from: Directory, _ to: Directory) throws(Errno) -> Ends {
            if isHidden(newName, in: to) { throw .notPermitted }
            guard let source = try find(name, in: from) else { throw .noEntry }
            let target = try find(newName, in: to)
            if isExchange {
                if target == nil { throw .noEntry }
            } else if let target {
                if flags & mcfs_rename_noreplace != 0 { throw .exists }
                let isDirectory = attributes(of: target).kind == .directory
                if isDirectory != (attributes(of: source).kind == .directory) {
                    throw isDirectory ? .isDirectory : .notDirectory
                }
            }
            return (source, target)
        }
        return try changing { () throws(Errno) in
            // The kernel keeps others from both directories; what is seen here is looked at again.
            let seen = try looking(in: parent) { (from) throws(Errno) in try checked(from, try directory(newParent)) }
            if let file = fileToCopy(seen.source) ?? (isExchange ? seen.target.flatMap(fileToCopy) : nil) {
                return file
            }
            let fromFolder = try makeFolder(parent)
            let toFolder = try makeFolder(newParent)
            // Nothing may be made in a directory that is replaced.
            let below = isExchange ? nil : seen.target.flatMap(folderOf)
            try holding([fromFolder, toFolder] + (below.map { [$0] } ?? [])) { () throws(Errno) in
                let from = try directory(parent)
                let to = try directory(newParent)
                let (source, target) = try checked(from, to)
                // Somebody was faster.
                guard from.folder === fromFolder, to.folder === toFolder,
                    isExchange || target.flatMap(folderOf) === below
                else { throw .stale }
                // Not left to the disk, which would say so after the rename is written down.
                if !isExchange, let target, target.isDirectory(tree) { try checkEmpty(target, looksAtDisk: true) }
                let oldPlace = Place(folder: fromFolder, name: name)
                let newPlace = Place(folder: toFolder, name: newName)
                let anchor = isExchange ? nil : target.map { leave($0, newPlace) }
                try upper.rename(
                    UpperDirectory.Renaming(
                        name, fromFolder, inode: source.diskInode, isDirectory: source.isDirectory(tree),
                        mark: markAfterRename(target.flatMap { isExchange ? $0 : nil }, name, in: from, fromFolder)),
                    UpperDirectory.Renaming(
                        newName, toFolder, inode: target?.diskInode, isDirectory: target?.isDirectory(tree) ?? false,
                        mark: markAfterRename(source, newName, in: to, toFolder)),
                    isExchange: isExchange, metadata: isExchange ? nil : target.flatMap(metadataWithout))
                // What is only remembered leaves no trace in the directories of the disk.
                if !source.isUpper {
                    touch(fromFolder)
                    if fromFolder !== toFolder { touch(toFolder) }
                }
                if let target {
                    if isExchange {
                        moved(target, from: newPlace, to: oldPlace, parent: from.number)
                    } else if let anchor {
                        left(target, newPlace, anchor)
                    }
                }
                moved(source, from: oldPlace, to: newPlace, parent: to.number)
            }
            return nil
        }
    }

    // MARK: Parts

    /// Runs `body`, which makes something, with the directory that it is made in, which the upper has from now on. Nobody
    /// else looks at names there meanwhile.
    private func making<Result>(
        _ name: [UInt8], in parent: Node, _ body: (Directory, UpperFolder) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        // The upper's disk may allow longer ones.
        if name.count > TreePath.nameBytesMax { throw Errno(rawValue: ENAMETOOLONG) }
        func check(_ directory: Directory) throws(Errno) {
            if isHidden(name, in: directory) { throw .notPermitted }
            // What the upper has is refused by the disk.
            if shownEntry(name, in: directory) != nil { throw .exists }
        }
        try check(try directory(parent))
        let folder = try makeFolder(parent)
        try upper.settle()
        return try holding([folder]) { () throws(Errno) in
            let directory = try directory(parent)
            guard directory.folder === folder else { throw .noEntry }
            try check(directory)
            return try body(directory, folder)
        }
    }

    /// The folder of a directory that something was found in; nil where the upper knows nothing of it.
    private func folderOf(_ found: Found) -> UpperFolder? {
        switch found {
        case .upper(let node, _): node.now.folder
        case .lower(_, let node): node?.now.folder
        }
    }

    /// What was just made at a name, counted as one look-up.
    private func shown(_ name: [UInt8], in directory: Directory, _ folder: UpperFolder) throws(Errno) -> NodeAttributes
    {
        guard let status = try upper.status(name, in: folder) else { throw .noEntry }
        let made = node(status, name, in: directory, folder)
        nodes.count(made)
        return attributes(of: made, status)
    }

    /// A directory with a default access control list gives what is made in it its mode, whatever the umask
    /// (acl(5)); the disk does that.
    private func mode(_ permissions: UInt16, _ caller: Caller, _ folder: UpperFolder) -> mode_t {
        if caller.umask == 0 { return mode_t(permissions) }
        if folder.hasDefaultAccessList == nil, let directory = try? upper.descriptor(of: folder) {
            let list = try? UpperObject.descriptor(directory).extendedAttribute(Array("system.posix_acl_default".utf8))
            folder.hasDefaultAccessList = list != nil
        }
        return mode_t(folder.hasDefaultAccessList == true ? permissions : permissions & ~caller.umask)
    }

    /// Runs `body`, which makes something, so that it belongs to the caller.
    private func asOwner<Result>(
        _ caller: Caller, _ body: () throws(Errno) -> Result
    ) throws(Errno) -> Result {
        // The caller's umask counts, not the daemon's.
        _ = try retryingOnInterrupt { mcfs_leave_umask() }
        guard isRoot, caller.uid != 0 || caller.gid != 0 else { return try body() }
        guard mcfs_assume_owner(caller.uid, caller.gid) == 0 else { throw .notPermitted }
        defer { mcfs_resume_owner() }
        return try body()
    }

    /// What must be remembered of a name for `entry` of the tree to show there, or nothing of it.
    func mark(showing entry: Tree.Index?, _ name: [UInt8], in directory: Directory) -> Mark? {
        let natural = naturalEntry(name, in: directory)
        if entry == natural { return nil }
        return entry.map { .redirect(tree.path(of: $0)) } ?? .whiteout
    }

    /// nil `found`: nothing stands there any more.
    private func markAfterRename(
        _ found: Found?, _ name: [UInt8], in directory: Directory, _ folder: UpperFolder
    ) -> Mark? {
        switch found {
        case nil: mark(showing: nil, name, in: directory)
        case .lower(let entry, _): mark(showing: entry, name, in: directory)
        case .upper(let node, _) where node.now.isDirectory: mark(showing: node.now.shown, name, in: directory)
        // A file of the upper covers whatever is there.
        case .upper: folder.mark(name)
        }
    }

    /// - Parameter looksAtDisk: else a directory of the upper that shows nothing of the tree is left to the disk, which looks
    ///   when it goes.
    private func checkEmpty(_ found: Found, looksAtDisk: Bool) throws(Errno) {
        let number =
            switch found {
            case .upper(let node, _): node.number
            case .lower(let entry, _): Node(entry: entry).number
            }
        let directory = try directory(Node(number: number))
        if let folder = directory.folder {
            if !looksAtDisk && directory.lower == nil && folder.marks.isEmpty { return }
            if try !upper.entries(of: folder).isEmpty { throw .notEmpty }
            for case .redirect(let path) in folder.marks.values where tree.entry(at: path) != nil { throw .notEmpty }
        }
        for child in lower.view.shown(directory.lower.map { tree.children(of: $0) } ?? 0..<0) {
            let name = tree.withName(of: child) { Array($0) }
            if directory.folder?.mark(name) == nil { throw .notEmpty }
        }
    }

    /// Names of the tree changed in it: its times say so.
    private func touch(_ folder: UpperFolder) {
        guard folder.isOnDisk, let descriptor = try? upper.descriptor(of: folder) else { return }
        let now = timespec(tv_sec: 0, tv_nsec: mcfs_utime_now)
        let omit = timespec(tv_sec: 0, tv_nsec: mcfs_utime_omit)
        try? UpperObject.descriptor(descriptor).setTimes(accessed: omit, modified: now)
    }

    // MARK: Nodes that lose or change their names

    /// Holds what is about to lose a name, for those who have it open or stand in it.
    func leave(_ found: Found, _ place: Place) -> OwnedDescriptor? {
        guard case .upper(let node, _) = found else { return nil }
        // An open file, or a directory: it is held already.
        if case .upper(let held) = openFiles.known(node.number) { return held }
        if let folder = node.now.folder { return try? upper.descriptor(of: folder) }
        return try? upper.object(place.name, in: place.folder).open(mcfs_o_path)
    }

    func left(_ found: Found, _ place: Place, _ anchor: OwnedDescriptor?) {
        switch found {
        case .upper(let node, let status):
            let isFile: Void? = nodes.updateFile(node) { file in
                file.places.remove(place)
                if file.places.isEmpty { file.anchor = anchor }
            }
            if isFile == nil {
                let state = node.now
                node.become(.removedDirectory(state.identity, anchor: anchor, parent: state.parent ?? node.number))
            }
            if isFile == nil || status.st_nlink <= 1 { nodes.forget(DiskIdentity(status)) }
        case .lower(let entry, let node):
            if tree.attributes(of: entry).kind == .directory {
                let parent = node?.now.parent ?? Node.root.number
                nodes.become(.removedDirectory(nil, anchor: nil, parent: parent), ofEntry: Node(entry: entry))
                var metadata = LowerMetadata()
                metadata.lose(1)
                lower.setMetadata(metadata, of: entry)
                return
            }
            node?.become(.movedFile(nil))
            var metadata = lower.metadata(of: entry) ?? LowerMetadata()
            metadata.lose(lower.attributes(of: entry).linkCount)
            lower.setMetadata(metadata, of: entry)
        }
    }

    /// What is to be remembered of a file of the tree that loses one of its names; nil where it was the last one, and for
    /// everything else.
    private func metadataWithout(_ found: Found) -> (lower: TreePath, value: LowerMetadata)? {
        guard case .lower(let entry, _) = found, tree.attributes(of: entry).kind != .directory else { return nil }
        let count = lower.attributes(of: entry).linkCount
        guard count > 1 else { return nil }
        var metadata = lower.metadata(of: entry) ?? LowerMetadata()
        metadata.lose(count)
        return (tree.path(of: tree.inode(of: entry)), metadata)
    }

    private func moved(_ found: Found, from: Place, to: Place, parent: UInt64) {
        switch found {
        case .upper(let node, _):
            let isFile: Void? = nodes.updateFile(node) { file in
                file.places.remove(from)
                file.places.insert(to)
            }
            guard isFile == nil, case .upperDirectory(let identity, _, let shows, _) = node.now else { return }
            // What is remembered below has moved along; where nothing was known, the place is new.
            let folder = to.folder.folder(to.name)
            folder.identity = identity
            node.become(.upperDirectory(identity, folder: folder, shows: shows, parent: parent))
        case .lower(let entry, _):
            guard tree.attributes(of: entry).kind == .directory else {
                movedFile(entry, to: to)
                return
            }
            nodes.become(
                .treeDirectory(entry, folder: to.folder.folder(to.name), parent: parent), ofEntry: Node(entry: entry))
        }
    }

    /// Where the names of a file with several are is told by the tree alone, until all of them are in the upper.
    private func fileToCopy(_ found: Found) -> Node? {
        guard case .lower(let entry, _) = found, tree.attributes(of: entry).kind != .directory,
            tree.attributes(of: entry).linkCount > 1
        else { return nil }
        return Node(entry: tree.inode(of: entry))
    }
}

extension Overlay.Found {
    var isUpper: Bool { if case .upper = self { true } else { false } }

    fileprivate var diskInode: UInt64? { if case .upper(_, let status) = self { UInt64(status.st_ino) } else { nil } }

    fileprivate func isDirectory(_ tree: Tree) -> Bool {
        switch self {
        case .upper(let node, _): node.now.isDirectory
        case .lower(let entry, _): tree.attributes(of: entry).kind == .directory
        }
    }
}

extension LowerMetadata {
    /// One of `count` names is gone.
    fileprivate mutating func lose(_ count: UInt32) {
        linkCount = count > 0 ? count - 1 : 0
        changed = .now
    }
}
