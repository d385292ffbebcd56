internal import CLinux
package import Glibc
package import MCFSCore
internal import Synchronization

/// The writable directory of a mount: plain files and directories, whole and readable without mcfs, and one hidden place
/// that remembers what of the tree below was deleted, renamed, or changed without its bytes.
///
/// Crash behaviour. What is on the disk of the upper is as the last system call left it, also when the daemon is killed.
/// The log says what hides the tree below; a name is written there before the upper loses what stood at it, so a crash
/// in between leaves the name as it was. A rename that moves both what is remembered and what is on the disk is written
/// to the log first, with the inode numbers it concerns, and is finished at the next mount if `done` does not follow.
/// Copies are made in the hidden place and renamed into theirs.
///
/// Threads: everything here is called while the overlay's lock is held; calls that change something, for writing.
package final class UpperDirectory: Sendable {
    /// At the root of the upper; never shown in the mount.
    package static let hiddenName = Array(".mcfs-upper".utf8)
    /// Directories that are held open at most.
    private static let openFoldersMax = 512

    /// Absolute, for messages and `status`.
    package let path: String
    package let root = UpperFolder()
    package let device: UInt64
    /// What is remembered of files of the tree that have their bytes from there.
    package var metadata: [TreePath: LowerMetadata] { currentMetadata.withLock { $0 } }
    let log: ChangeLog
    /// Open from before anything was mounted over it.
    package let directory: OwnedDescriptor
    private let hidden: HiddenPlace
    private let openFolders = Lock<[UpperFolder]>([])
    private let workCount = Lock<UInt64>(0)
    /// Divides what is made here from what an earlier mount may still be making.
    private let session = String(UInt32.random(in: 0...UInt32.max), radix: 16)

    /// Takes the upper for this mount alone, until the value is gone.
    ///
    /// - Parameter descriptor: the directory, opened before anything was mounted over it.
    /// - Throws: `busy` where another mount has it; `cannotCreate`.
    package init(_ descriptor: OwnedDescriptor, path: String) throws(MCFSError) {
        self.path = path
        directory = descriptor
        do throws(Errno) {
            _ = try retryingOnInterrupt { flock(descriptor.rawValue, LOCK_EX | LOCK_NB) }
            device = UInt64(try descriptor.status().st_dev)
        } catch {
            if error == .wouldBlock {
                throw MCFSError(
                    .busy,
                    "the upper \(path) belongs to another mount; unmount that, or give each mount an --upper of its own"
                )
            }
            throw MCFSError(localIO: "use \(path) as the upper", error)
        }
        guard faccessat(descriptor.rawValue, ".", W_OK | X_OK, 0) == 0 else {
            throw MCFSError(
                .cannotCreate,
                "cannot write to the upper \(path): \(Errno.current); give another --upper, or mount with --read-only")
        }
        hidden = HiddenPlace(root: descriptor)
        log = ChangeLog { [hidden] () throws(Errno) in try hidden.directory() }
        root.isOnDisk = true
        root.descriptor.withLock { $0 = descriptor }

        var metadata: [TreePath: LowerMetadata] = [:]
        if let place = try hidden.existing() {
            let (records, isWhole) = try ChangeLog.read(place)
            Self.replay(records, root, &metadata)
            if case .rename(let rename) = records.last {
                // What is not there any more was moved by somebody else.
                try? Self.finish(rename, root: descriptor)
                log.appendDone()
            }
            HiddenPlace.clearWork(in: place)
            let live = Self.records(root, metadata)
            if live.isEmpty {
                hidden.remove()
            } else if !isWhole || records.count != live.count || records.contains(where: \.isOfRename) {
                log.replace(with: live)
            }
        }
        currentMetadata.withLock { $0 = metadata }
    }

    /// Gives the directory free for another mount, and takes the hidden place away where it remembers nothing.
    package func close() {
        guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        try? log.settle()
        if !root.hasMarks && metadata.isEmpty { hidden.remove() }
        flock(directory.rawValue, LOCK_UN)
    }

    private let isClosed = Atomic<Bool>(false)

    deinit { close() }

    // MARK: Names

    /// The folder's directory, which exists: for calls that take a name in it.
    package func descriptor(of folder: UpperFolder) throws(Errno) -> OwnedDescriptor {
        if let known = folder.descriptor.withLock({ $0 }) { return known }
        guard let parent = folder.parent else { throw .noEntry }
        let opened = try OwnedDescriptor.open(
            bytes: folder.name, at: try descriptor(of: parent), mcfs_o_path | O_DIRECTORY | O_NOFOLLOW)
        folder.descriptor.withLock { $0 = opened }
        let oldest = openFolders.withLock { open -> UpperFolder? in
            open.append(folder)
            return open.count > Self.openFoldersMax ? open.removeFirst() : nil
        }
        if let oldest { closeDescriptor(of: oldest) }
        return opened
    }

    /// The directory is gone.
    private func forget(_ folder: UpperFolder) {
        folder.isOnDisk = false
        closeDescriptor(of: folder)
        openFolders.withLock { open in
            // What goes was often the last to come.
            if let index = open.lastIndex(where: { $0 === folder }) { open.remove(at: index) }
        }
    }

    private func closeDescriptor(of folder: UpperFolder) {
        let descriptor = folder.descriptor.withLock { $0.take() }
        withExtendedLifetime(descriptor) {}
    }

    package func object(_ name: [UInt8], in folder: UpperFolder) throws(Errno) -> UpperObject {
        .name(name, in: try descriptor(of: folder))
    }

    /// nil where the upper has no such name.
    package func status(_ name: [UInt8], in folder: UpperFolder) throws(Errno) -> stat? {
        guard folder.isOnDisk else { return nil }
        do throws(Errno) { return try object(name, in: folder).status() } catch {
            if error == .noEntry { return nil }
            throw error
        }
    }

    /// Before anything changes. - Throws: ENOSPC, where not even a word can be written any more.
    package func settle() throws(Errno) {
        try log.settle()
        // Most of a long log is history.
        if log.isLong { log.replace(with: Self.records(root, metadata)) }
    }

    /// Takes a name away from the upper, and what the tree has there from sight if `mark` says so.
    ///
    /// - Parameter metadata: what a file of the tree looks like without that name.
    package func remove(
        _ name: [UInt8], in folder: UpperFolder, isOnDisk: Bool, isDirectory: Bool, mark: Mark?,
        metadata: (lower: TreePath, value: LowerMetadata)? = nil
    ) throws(Errno) {
        var records = metadata.map { [ChangeRecord.metadata($0.lower, $0.value)] } ?? []
        if folder.mark(name) != mark || folder.known(name)?.hasMarks == true {
            let place = folder.path.appending(name)
            records.append(mark == .whiteout ? .whiteout(place) : .clear(place))
        }
        let logged = records.isEmpty ? nil : try log.append(records)
        if isOnDisk {
            do throws(Errno) {
                let parent = try descriptor(of: folder)
                _ = try retryingOnInterrupt {
                    name.withTerminated { unlinkat(parent.rawValue, $0, isDirectory ? AT_REMOVEDIR : 0) }
                }
            } catch {
                if let logged { log.takeBack(to: logged) }
                throw error
            }
        }
        remember(metadata)
        folder.setMark(mark, name)
        if let gone = folder.detach(name) { forget(gone) }
    }

    /// What the tree has at a name does not show from now on, nor in what is made there.
    package func cover(_ name: [UInt8], in folder: UpperFolder) throws(Errno) {
        try log.append([.whiteout(folder.path.appending(name))])
        folder.setMark(.whiteout, name)
    }

    /// What a rename means for the upper; see `Overlay`.
    package struct Renaming {
        package var name: [UInt8]
        package var folder: UpperFolder
        /// Of what the upper has there.
        package var inode: UInt64?
        package var isDirectory: Bool
        /// What is right there afterwards.
        package var mark: Mark?

        package init(_ name: [UInt8], _ folder: UpperFolder, inode: UInt64?, isDirectory: Bool, mark: Mark?) {
            self.name = name
            self.folder = folder
            self.inode = inode
            self.isDirectory = isDirectory
            self.mark = mark
        }
    }

    ///
    /// - Parameter metadata: what a file of the tree looks like that loses a name by it.
    package func rename(
        _ from: Renaming, _ to: Renaming, isExchange: Bool, metadata: (lower: TreePath, value: LowerMetadata)? = nil
    ) throws(Errno) {
        var rename = Rename(from: from.folder.path.appending(from.name), to: to.folder.path.appending(to.name))
        rename.isExchange = isExchange
        rename.fromMark = from.mark
        rename.toMark = to.mark
        rename.moves = from.inode
        if isExchange { rename.movesBack = to.inode } else if from.inode == nil { rename.drops = to.inode }
        let isRemembered =
            from.folder.mark(from.name) != from.mark || to.folder.mark(to.name) != to.mark
            || from.folder.known(from.name)?.hasMarks == true || to.folder.known(to.name)?.hasMarks == true
        var records = metadata.map { [ChangeRecord.metadata($0.lower, $0.value)] } ?? []
        if isRemembered { records.append(.rename(rename)) }
        let logged = records.isEmpty ? nil : try log.append(records)
        if rename.needsUpper {
            do throws(Errno) {
                try Self.perform(
                    rename, from.name, try descriptor(of: from.folder), to.name, try descriptor(of: to.folder),
                    dropsDirectory: to.isDirectory)
            } catch {
                if let logged { log.takeBack(to: logged) }
                throw error
            }
            if isRemembered { log.appendDone() }
        }
        remember(metadata)
        from.folder.setMark(from.mark, from.name)
        to.folder.setMark(to.mark, to.name)
        let moved = from.folder.detach(from.name)
        let replaced = to.folder.detach(to.name)
        to.folder.attach(moved, to.name)
        if isExchange {
            from.folder.attach(replaced, from.name)
        } else if let replaced {
            forget(replaced)
        }
    }

    private static func perform(
        _ rename: Rename, _ fromName: [UInt8], _ from: OwnedDescriptor, _ toName: [UInt8], _ to: OwnedDescriptor,
        dropsDirectory: Bool
    ) throws(Errno) {
        switch (rename.moves, rename.movesBack) {
        case (_?, _?):
            try renameName(fromName, in: from, to: toName, in: to, flags: mcfs_rename_exchange)
        case (_?, nil):
            try renameName(fromName, in: from, to: toName, in: to)
        case (nil, _?):
            try renameName(toName, in: to, to: fromName, in: from)
        case (nil, nil):
            _ = try retryingOnInterrupt {
                toName.withTerminated { unlinkat(to.rawValue, $0, dropsDirectory ? AT_REMOVEDIR : 0) }
            }
        }
    }

    /// Does what a rename left undone when the daemon was killed.
    private static func finish(_ rename: Rename, root: OwnedDescriptor) throws(Errno) {
        func locate(_ path: TreePath) throws(Errno) -> (OwnedDescriptor, [UInt8], stat?) {
            var folder = root
            for name in path.components.dropLast() {
                folder = try .open(bytes: name, at: folder, mcfs_o_path | O_DIRECTORY | O_NOFOLLOW)
            }
            return (folder, path.name, try? UpperObject.name(path.name, in: folder).status())
        }
        guard rename.needsUpper else { return }
        let (from, fromName, fromStatus) = try locate(rename.from)
        let (to, toName, toStatus) = try locate(rename.to)
        if let inode = rename.moves, fromStatus.map({ UInt64($0.st_ino) }) != inode { return }
        if let inode = rename.movesBack ?? rename.drops, toStatus.map({ UInt64($0.st_ino) }) != inode { return }
        try perform(
            rename, fromName, from, toName, to, dropsDirectory: toStatus.map { $0.st_mode & S_IFMT == S_IFDIR } ?? false
        )
    }

    // MARK: Metadata of files below

    private let currentMetadata = Lock<[TreePath: LowerMetadata]>([:])

    /// An empty value forgets what was remembered.
    package func setMetadata(_ value: LowerMetadata, _ lower: TreePath) throws(Errno) {
        try log.append([.metadata(lower, value)])
        remember((lower, value))
    }

    private func remember(_ metadata: (lower: TreePath, value: LowerMetadata)?) {
        guard let (lower, value) = metadata else { return }
        currentMetadata.withLock { $0[lower] = value == LowerMetadata() ? nil : value }
    }

    // MARK: Making

    /// A name in the hidden place for something that is being made; nobody else has it.
    package func workPlace() throws(Errno) -> (folder: OwnedDescriptor, name: [UInt8]) {
        let number = workCount.withLock { count in
            count += 1
            return count
        }
        return (try hidden.work(), Array("\(session).\(number)".utf8))
    }

    /// Puts what was made in the hidden place to its own.
    package func put(
        _ work: (folder: OwnedDescriptor, name: [UInt8]), _ name: [UInt8], in folder: UpperFolder
    ) throws(Errno) {
        try renameName(work.name, in: work.folder, to: name, in: try descriptor(of: folder))
    }

    package func discard(_ work: (folder: OwnedDescriptor, name: [UInt8])) {
        _ = work.name.withTerminated { unlinkat(work.folder.rawValue, $0, 0) }
        _ = work.name.withTerminated { unlinkat(work.folder.rawValue, $0, AT_REMOVEDIR) }
    }

    // MARK: The disk

    /// Brings to the disk what is remembered; after it, what was renamed or deleted before stays so.
    package func syncLog() throws(Errno) { try log.sync() }

    package func usage() throws(Errno) -> statvfs {
        var result = statvfs()
        _ = try retryingOnInterrupt { fstatvfs(directory.rawValue, &result) }
        return result
    }

    package var rootObject: UpperObject { .descriptor(directory) }

    package var isOnOverlay: Bool { mcfs_is_on_overlay(directory.rawValue) != 0 }

    // MARK: The log

    private static func replay(
        _ records: [ChangeRecord], _ root: UpperFolder, _ metadata: inout [TreePath: LowerMetadata]
    ) {
        for record in records {
            switch record {
            case .whiteout(let path), .clear(let path):
                let folder = root.folder(at: path.parent)
                if case .whiteout = record {
                    folder.setMark(.whiteout, path.name)
                } else {
                    folder.setMark(nil, path.name)
                }
                _ = folder.detach(path.name)
            case .redirect(let path, let lower): root.folder(at: path.parent).setMark(.redirect(lower), path.name)
            case .metadata(let lower, let value): metadata[lower] = value == LowerMetadata() ? nil : value
            case .rename(let rename):
                let from = root.folder(at: rename.from.parent)
                let to = root.folder(at: rename.to.parent)
                let moved = from.detach(rename.from.name)
                let replaced = to.detach(rename.to.name)
                to.attach(moved, rename.to.name)
                if rename.isExchange { from.attach(replaced, rename.from.name) }
                from.setMark(rename.fromMark, rename.from.name)
                to.setMark(rename.toMark, rename.to.name)
            case .done: break
            }
        }
    }

    private static func records(_ root: UpperFolder, _ metadata: [TreePath: LowerMetadata]) -> [ChangeRecord] {
        var records: [ChangeRecord] = []
        root.forEachMark { path, mark in
            switch mark {
            case .whiteout: records.append(.whiteout(path))
            case .redirect(let lower): records.append(.redirect(path, to: lower))
            }
        }
        return records + metadata.map { .metadata($0.key, $0.value) }
    }
}
