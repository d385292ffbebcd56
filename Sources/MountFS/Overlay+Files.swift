internal import CLinux
internal import Catalog
internal import Glibc
package import MCFSCore
internal import Upper

/// Open files, and what is changed of a node by its number.
extension Overlay {
    /// Counts one more open of a file; each is taken back by one `MountFS.release`. What is to be written must be in the
    /// upper: see `mustCopyUp`.
    ///
    /// - Parameters:
    ///   - copy: what `copyUp` has just returned for it.
    ///   - body: gets the file while nothing can make a copy of it.
    ///   - reason: what is wrong with the bytes of the file, where that is why this throws.
    func open(
        _ node: Node, flags: CInt, copy: OwnedDescriptor?, by caller: Caller, reason: inout MCFSError?,
        _ body: (MountFS.Opened) -> Void
    ) throws(Errno) {
        let writes = flags & O_ACCMODE != O_RDONLY || flags & O_TRUNC != 0
        if let known = nodes.node(node.number), known.now.isUpper {
            return body(try openUpper(known, flags, writes: writes, copy, by: caller))
        }
        if writes { throw .stale }
        try switching.reading { () throws(Errno) in
            // It may have become one of the upper meanwhile.
            if let known = nodes.node(node.number), known.now.isUpper { throw .stale }
            let entry = try entry(of: node)
            if countsAsUse(flags) {
                tree.withName(of: entry) { lower.view.opened($0, in: tree.path(of: tree.parent(of: entry))) }
            }
            do throws(MCFSError) {
                return body(
                    try openFiles.open(node.number) { () throws(MCFSError) in
                        guard let content = lower.content(of: entry) else { return .empty }
                        return try lower.opened(entry, content)
                    }.opened)
            } catch {
                reason = error
                throw .io
            }
        }
    }

    private func openUpper(
        _ node: OverlayNode, _ flags: CInt, writes: Bool, _ copy: OwnedDescriptor?, by caller: Caller
    ) throws(Errno) -> MountFS.Opened {
        if node.now.isDirectory { throw .isDirectory }
        if countsAsUse(flags), let place = node.place {
            place.name.withUnsafeBytes { lower.view.opened($0, in: place.folder.path) }
        }
        if writes, case .upper(let file) = openFiles.known(node.number), !file.isWritable {
            // Opened for reading when no more was allowed.
            openFiles.replace(node.number, .upper(try openUpper(node, writes: true)))
        }
        let opened = try openFiles.open(node.number) { () throws(Errno) in
            if let copy { return .upper(copy) }
            return .upper(try openUpper(node, writes: writes))
        }
        // The number was given back to the tree meanwhile.
        if !NodeTable.isDynamic(node.number), nodes.node(node.number) !== node {
            openFiles.release(node.number)
            throw .stale
        }
        if flags & O_TRUNC != 0, case .upper(let file) = opened {
            do throws(Errno) { try truncate(file, by: caller) } catch {
                openFiles.release(node.number)
                throw error
            }
        }
        return opened.opened
    }

    /// Who writes does not use what is there, nor does who leaves the access time alone, as the inventory does.
    private func countsAsUse(_ flags: CInt) -> Bool {
        flags & (O_ACCMODE | O_TRUNC | mcfs_o_noatime) == O_RDONLY
    }

    private func truncate(_ file: OwnedDescriptor, by caller: Caller) throws(Errno) {
        _ = try retryingOnInterrupt { ftruncate(file.rawValue, 0) }
        try dropSetIDs(of: file, writtenBy: caller)
    }

    /// A file that another than root has written to is no set-id program any more. The kernel leaves it to us, so that
    /// it need not ask before every write.
    private func dropSetIDs(of file: OwnedDescriptor, writtenBy caller: Caller) throws(Errno) {
        guard caller.uid != 0 else { return }
        let status = try file.status()
        let permissions = UInt16(status.st_mode & 0o7777)
        // Without execution for the group the bit means something else, which who is not in the group takes away, too.
        let kept = permissions & ~(status.st_gid == caller.gid ? 0 : 0o2000)
        if kept.withoutSetIDs != permissions {
            _ = try retryingOnInterrupt { fchmod(file.rawValue, mode_t(kept.withoutSetIDs)) }
        }
    }

    /// For reading and writing where that may be, so that later opens need no other descriptor.
    private func openUpper(_ node: OverlayNode, writes: Bool) throws(Errno) -> OwnedDescriptor {
        do throws(Errno) { return try openDescriptor(of: node, O_RDWR | O_NONBLOCK) } catch {
            guard error.rawValue == EACCES || error.rawValue == EROFS || error.rawValue == EPERM else { throw error }
            return try openDescriptor(of: node, (writes ? O_WRONLY : O_RDONLY) | O_NONBLOCK)
        }
    }

    /// The descriptor of a file of the upper that is open, or is opened for this call.
    private func file(_ node: Node) throws(Errno) -> OwnedDescriptor {
        if case .upper(let file) = openFiles.known(node.number) { return file }
        return try openUpper(try upperNode(node), writes: false)
    }

    /// - Returns: how many bytes were written: fewer where the disk is full.
    package func write(
        _ node: Node, _ bytes: UnsafeRawBufferPointer, at offset: UInt64, by caller: Caller
    ) throws(Errno) -> Int {
        let file = try file(node)
        var done = 0
        while done < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
            do throws(Errno) {
                done += try retryingOnInterrupt {
                    pwrite(file.rawValue, rest.baseAddress, rest.count, off_t(clamping: offset) + off_t(done))
                }
            } catch {
                if done == 0 { throw error }
                break
            }
        }
        try dropSetIDs(of: file, writtenBy: caller)
        return done
    }

    package func sync(_ node: Node, handle: UInt64, dataOnly: Bool) throws(Errno) {
        // What hid or moved what stood at its name is on the disk before it is.
        try upper.settle()
        try openFiles.sync(node.number, handle: handle) { (file) throws(Errno) in
            _ = try retryingOnInterrupt { dataOnly ? fdatasync(file.rawValue) : fsync(file.rawValue) }
        }
    }

    package func syncDirectory(_ node: Node) throws(Errno) {
        try upper.settle()
        guard let folder = try directory(node).folder, folder.isOnDisk else { return }
        let directory = try OwnedDescriptor.open(
            bytes: Array(".".utf8), at: try upper.descriptor(of: folder), O_RDONLY | O_DIRECTORY)
        _ = try retryingOnInterrupt { fsync(directory.rawValue) }
    }

    /// `lseek(2)` for data and holes. Files of the tree have no holes.
    package func seek(_ node: Node, to offset: Int64, whence: CInt) throws(Errno) -> Int64 {
        if mustCopyUp(node) {
            let size = Int64(clamping: lower.attributes(of: try entry(of: node)).size)
            guard offset >= 0, offset < size else { throw Errno(rawValue: ENXIO) }
            return whence == mcfs_seek_hole ? size : offset
        }
        let file = try file(node)
        return Int64(try retryingOnInterrupt { lseek(file.rawValue, off_t(offset), whence) })
    }

    package func allocate(
        _ node: Node, mode: CInt, offset: Int64, length: Int64, by caller: Caller
    ) throws(Errno) {
        let file = try file(node)
        _ = try retryingOnInterrupt { mcfs_fallocate(file.rawValue, mode, off_t(offset), off_t(length)) }
        try dropSetIDs(of: file, writtenBy: caller)
    }

    /// - Throws: EXDEV where the kernel shall copy by itself: from a file of the tree.
    package func copy(
        _ from: Node, at fromOffset: Int64, to: Node, at toOffset: Int64, count: Int, by caller: Caller
    ) throws(Errno) -> Int {
        if mustCopyUp(from) { throw Errno(rawValue: EXDEV) }
        let source = try file(from)
        let target = try file(to)
        var fromOffset = off_t(fromOffset)
        var toOffset = off_t(toOffset)
        let done = try retryingOnInterrupt {
            mcfs_copy_file_range(source.rawValue, &fromOffset, target.rawValue, &toOffset, count)
        }
        try dropSetIDs(of: target, writtenBy: caller)
        return done
    }

    // MARK: Attributes

    /// A new size needs the file in the upper: see `mustCopyUp`. Owner, mode and times do not.
    package func change(_ node: Node, _ change: AttributeChange, by caller: Caller) throws(Errno) -> NodeAttributes {
        try changing(node) { () throws(Errno) in
            if let known = nodes.node(node.number), known.now.isUpper {
                try upper.settle()
                try apply(change, to: known, by: caller)
                return try attributes(of: node)
            }
            let entry = try entry(of: node)
            switch tree.attributes(of: entry).kind {
            case .directory where !lower.isNameless(entry):
                _ = try makeFolder(node)
                try apply(change, to: try upperNode(node), by: caller)
            case .file, .directory:
                if change.size != nil { throw .stale }
                try remember(change, of: entry)
            case .symlink, .fifo, .characterDevice, .blockDevice: throw .stale
            }
            return try attributes(of: node)
        }
    }

    /// Runs `body`, which changes attributes, once more where the file has come to be in the upper meanwhile: the kernel asks
    /// again only who came by a path.
    func changing<Result>(_ node: Node, _ body: () throws(Errno) -> Result) throws(Errno) -> Result {
        try changing { () throws(Errno) in
            let mayBecomeUpper = mustCopyUp(node)
            do throws(Errno) { return try body() } catch {
                guard error == .stale, mayBecomeUpper, !mustCopyUp(node) else { throw error }
                return try body()
            }
        }
    }

    private func apply(_ change: AttributeChange, to node: OverlayNode, by caller: Caller) throws(Errno) {
        let object = try object(of: node)
        let file: OwnedDescriptor? = if case .upper(let open) = openFiles.known(node.number) { open } else { nil }
        try apply(change, to: object, file, by: caller)
    }

    /// - Parameter file: the object, open for writing, where it is.
    func apply(_ change: AttributeChange, to object: UpperObject, _ file: OwnedDescriptor?, by caller: Caller)
        throws(Errno)
    {
        if change.uid != nil || change.gid != nil { try object.setOwner(change.uid, change.gid) }
        if let permissions = change.permissions { try object.setPermissions(permissions) }
        if let size = change.size {
            let file = if let file { file } else { try object.open(O_WRONLY | O_NONBLOCK) }
            _ = try retryingOnInterrupt { ftruncate(file.rawValue, off_t(clamping: size)) }
            try dropSetIDs(of: file, writtenBy: caller)
        }
        if change.accessed != nil || change.modified != nil {
            try object.setTimes(accessed: time(change.accessed), modified: time(change.modified))
        }
    }

    private func time(_ time: AttributeChange.Time?) -> timespec {
        switch time {
        case nil: timespec(tv_sec: 0, tv_nsec: mcfs_utime_omit)
        case .now: timespec(tv_sec: 0, tv_nsec: mcfs_utime_now)
        case .at(let time): time.asTimespec
        }
    }

    private func remember(_ change: AttributeChange, of entry: Tree.Index) throws(Errno) {
        func timestamp(_ time: AttributeChange.Time?) -> Timestamp? {
            switch time {
            case nil: nil
            case .now: .now
            case .at(let time): time
            }
        }
        try updateMetadata(of: entry) { metadata in
            var permissions = metadata.permissions ?? tree.attributes(of: entry).permissions
            if change.uid != nil || change.gid != nil { permissions = permissions.withoutSetIDs }
            permissions = change.permissions ?? permissions
            if permissions != tree.attributes(of: entry).permissions || metadata.permissions != nil {
                metadata.permissions = permissions
            }
            metadata.uid = change.uid ?? metadata.uid
            metadata.gid = change.gid ?? metadata.gid
            metadata.accessed = timestamp(change.accessed) ?? metadata.accessed
            metadata.modified = timestamp(change.modified) ?? metadata.modified
        }
    }

    /// Remembers something of a file of the tree, which counts as a change of it.
    ///
    /// - Throws: ESTALE where it is in the upper by now.
    func updateMetadata(of entry: Tree.Index, _ body: (inout LowerMetadata) throws(Errno) -> Void) throws(Errno) {
        try upper.alone { () throws(Errno) in
            if nodes.node(Node(entry: tree.inode(of: entry)).number)?.now.isUpper == true { throw .stale }
            var metadata = lower.metadata(of: entry) ?? LowerMetadata()
            try body(&metadata)
            metadata.changed = .now
            // Nobody will ask for what has no name when those who have it open are gone.
            if !lower.isNameless(entry) { try upper.setMetadata(metadata, tree.path(of: tree.inode(of: entry))) }
            lower.setMetadata(metadata, of: entry)
        }
    }
}

extension OwnedDescriptor {
    fileprivate var isWritable: Bool { fcntl(rawValue, F_GETFL) & O_ACCMODE != O_RDONLY }
}

extension UInt16 {
    /// Permissions as they are after a write: a set-group-ID bit without execution means something else.
    fileprivate var withoutSetIDs: UInt16 { self & ~(self & 0o010 != 0 ? 0o6000 : 0o4000) }
}
