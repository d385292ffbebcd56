internal import CLinux
package import Glibc
package import MCFSCore
internal import Synchronization

/// The writable directory of a mount: plain files and directories, whole and readable without mcfs, and one hidden place
/// that remembers what of the tree below was deleted, renamed, or changed without its bytes: `ChangeLog`.
///
/// Crash behaviour. What is on the disk of the upper is as the last system call left it, also when the daemon is killed.
/// The log says what hides the tree below; a name is on the disk there before the upper loses what stood at it, so a crash
/// in between leaves the name as it was. A rename that moves both what is remembered and what is on the disk is written
/// to the log first, with the inode numbers it concerns, and is finished at the next mount if `done` does not follow.
/// Copies are made in the hidden place and renamed into theirs.
///
/// Threads: whoever changes a name holds the `names` of its folder.
package final class UpperDirectory: Sendable {
    /// Directories that are held open at most: few of what the process may have open.
    private static let openFoldersMax: Int = {
        var limit = rlimit()
        return getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0
            ? min(512, Int(clamping: limit.rlim_cur) / 16) : 32
    }()

    /// Absolute, for messages and `status`.
    package let path: String
    package let device: UInt64
    let log: ChangeLog
    /// Open from before anything was mounted over it.
    package let directory: OwnedDescriptor
    private let openFolders = Lock<[UpperFolder]>([])
    private let workCount = Atomic<UInt64>(0)
    /// Divides what is made here from what an earlier mount may still be making.
    private let session = String(UInt32.random(in: 0...UInt32.max), radix: 16)
    private let isClosed = Atomic<Bool>(false)

    package var root: UpperFolder { log.remembered.root }
    /// What is remembered of files of the tree that have their bytes from there.
    package var metadata: [TreePath: LowerMetadata] { log.remembered.metadata }
    /// What the user should know, in words.
    package var problems: [String] { log.problems }

    /// Takes the upper for this mount alone, until the value is gone.
    ///
    /// - Parameter descriptor: the directory, opened before anything was mounted over it.
    /// - Throws: `busy` where another mount has it; `cannotCreate`.
    package init(_ descriptor: OwnedDescriptor, path: String) throws(MCFSError) {
        self.path = path
        directory = descriptor
        let status: stat
        do throws(Errno) {
            _ = try retryingOnInterrupt { flock(descriptor.rawValue, LOCK_EX | LOCK_NB) }
            status = try descriptor.status()
        } catch {
            if error == .wouldBlock {
                throw MCFSError(
                    .busy,
                    "the upper \(path) belongs to another mount; unmount that, or give each mount an --upper of its own"
                )
            }
            throw MCFSError(localIO: "use \(path) as the upper", error)
        }
        device = UInt64(status.st_dev)
        guard faccessat(descriptor.rawValue, ".", W_OK | X_OK, 0) == 0 else {
            throw MCFSError(
                .cannotCreate,
                "cannot write to the upper \(path): \(Errno.current); give another --upper, or mount with --read-only")
        }
        log = try ChangeLog(root: descriptor)
        root.identity = DiskIdentity(status)
        root.descriptor.withLock { $0 = descriptor }
    }

    /// Gives the directory free for another mount, and takes the hidden place away where it remembers nothing.
    package func close() {
        guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        log.close()
        flock(directory.rawValue, LOCK_UN)
    }

    deinit { close() }

    /// Before names on the disk change: what is remembered is there by then. Waits for the disk where it is not.
    /// - Throws: ENOSPC, where not even a word can be written any more.
    package func settle() throws(Errno) { try log.settle() }

    /// Runs `body` while nobody else changes what is remembered, nor moves folders.
    package func alone<Result>(_ body: () throws(Errno) -> Result) throws(Errno) -> Result {
        try log.alone.withLock { _ throws(Errno) in try body() }
    }

    // MARK: Names

    /// The folder's directory, which exists: for calls that take a name in it.
    package func descriptor(of folder: UpperFolder) throws(Errno) -> OwnedDescriptor {
        if let known = folder.descriptor.withLock({ $0 }) { return known }
        var chain = [folder]
        while true {
            guard let parent = chain[chain.count - 1].parent else { throw .noEntry }
            if var opened = parent.descriptor.withLock({ $0 }) {
                for folder in chain.reversed() { opened = try open(folder, in: opened) }
                return opened
            }
            chain.append(parent)
        }
    }

    private func open(_ folder: UpperFolder, in parent: OwnedDescriptor) throws(Errno) -> OwnedDescriptor {
        var attempts = 0
        while true {
            do throws(Errno) {
                let opened = try OwnedDescriptor.open(
                    bytes: folder.name, at: parent, mcfs_o_path | O_DIRECTORY | O_NOFOLLOW)
                let identity = try DiskIdentity(UpperObject.descriptor(opened).status())
                if folder.identity != identity { throw .noEntry }
                keepOpen(folder, opened)
                // Who takes it from the disk forgets the descriptor, which may have come just now.
                if folder.identity == identity { return opened }
                closeDescriptor(of: folder)
                throw .noEntry
            } catch {
                attempts += 1
                guard error == .noEntry, attempts < 100, folder.isOnDisk else { throw error }
                // It is just being moved: the disk has its new name, the folder not yet. A tenth of a second at most, and no
                // lock to wait for: whoever moves it may be the caller.
                usleep(1000)
            }
        }
    }

    private func keepOpen(_ folder: UpperFolder, _ descriptor: OwnedDescriptor) {
        folder.descriptor.withLock { $0 = descriptor }
        let oldest = openFolders.withLock { open -> UpperFolder? in
            open.append(folder)
            return open.count > Self.openFoldersMax ? open.removeFirst() : nil
        }
        if let oldest { closeDescriptor(of: oldest) }
    }

    /// The directory is gone.
    func forget(_ folder: UpperFolder) {
        folder.identity = nil
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

    /// Takes a name away from the upper, and what the tree has there from sight if `mark` says so.
    ///
    /// - Parameter metadata: what a file of the tree looks like without that name.
    package func remove(
        _ name: [UInt8], in folder: UpperFolder, isOnDisk: Bool, isDirectory: Bool, mark: Mark?,
        metadata: (lower: TreePath, value: LowerMetadata)? = nil
    ) throws(Errno) {
        let parent = isOnDisk ? try descriptor(of: folder) : nil
        func unlink() throws(Errno) {
            guard let parent else { return }
            _ = try retryingOnInterrupt {
                name.withTerminated { unlinkat(parent.rawValue, $0, isDirectory ? AT_REMOVEDIR : 0) }
            }
        }
        if metadata == nil, folder.mark(name) == mark, folder.known(name) == nil {
            try log.settle()
            return try unlink()
        }
        try alone { () throws(Errno) in
            var records = metadata.map { [ChangeRecord.metadata($0.lower, $0.value)] } ?? []
            if folder.mark(name) != mark || folder.known(name)?.hasMarks == true {
                let place = folder.path.appending(name)
                records.append(mark == .whiteout ? .whiteout(place) : .clear(place))
            }
            try log.perform(records, isOnDisk ? unlink : nil)
            if let metadata { log.remembered.setMetadata(metadata.value, metadata.lower) }
            if let gone = log.remembered.take(name, from: folder, leaving: mark) { forget(gone) }
        }
        log.compactIfLong()
    }

    /// What the tree has at a name does not show from now on, nor in what `make` makes there.
    package func cover(_ name: [UInt8], in folder: UpperFolder, _ make: @escaping () throws(Errno) -> Void)
        throws(Errno)
    {
        try alone { () throws(Errno) in
            try log.perform([.whiteout(folder.path.appending(name))], make)
            folder.setMark(.whiteout, name)
        }
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

        /// Whether nothing is remembered of the name, before and after, nor below it.
        fileprivate var isPlain: Bool { folder.mark(name) == mark && folder.known(name) == nil }
    }

    ///
    /// - Parameter metadata: what a file of the tree looks like that loses a name by it.
    package func rename(
        _ from: Renaming, _ to: Renaming, isExchange: Bool, metadata: (lower: TreePath, value: LowerMetadata)? = nil
    ) throws(Errno) {
        var rename = Rename(from: .root, to: .root)
        rename.isExchange = isExchange
        rename.fromMark = from.mark
        rename.toMark = to.mark
        rename.moves = from.inode
        if isExchange { rename.movesBack = to.inode } else if from.inode == nil { rename.drops = to.inode }
        let onDisk = rename
        let fromParent = onDisk.needsUpper ? try descriptor(of: from.folder) : nil
        let toParent = onDisk.needsUpper ? try descriptor(of: to.folder) : nil
        func perform() throws(Errno) {
            guard let fromParent, let toParent else { return }
            try onDisk.perform(from.name, fromParent, to.name, toParent, dropsDirectory: to.isDirectory)
        }
        if metadata == nil, from.isPlain, to.isPlain {
            try log.settle()
            return try perform()
        }
        try alone { () throws(Errno) in
            let isRemembered =
                from.folder.mark(from.name) != from.mark || to.folder.mark(to.name) != to.mark
                || from.folder.known(from.name)?.hasMarks == true || to.folder.known(to.name)?.hasMarks == true
            var records = metadata.map { [ChangeRecord.metadata($0.lower, $0.value)] } ?? []
            if isRemembered {
                rename.from = from.folder.path.appending(from.name)
                rename.to = to.folder.path.appending(to.name)
                records.append(.rename(rename))
            }
            try log.perform(records, onDisk.needsUpper ? perform : nil)
            if isRemembered && onDisk.needsUpper { log.appendDone() }
            if let metadata { log.remembered.setMetadata(metadata.value, metadata.lower) }
            let replaced = log.remembered.move(
                (from.name, from.folder, from.mark), (to.name, to.folder, to.mark), isExchange: isExchange)
            if let replaced { forget(replaced) }
        }
        log.compactIfLong()
    }

    // MARK: Metadata of files below

    /// An empty value forgets what was remembered. Under `alone`.
    package func setMetadata(_ value: LowerMetadata, _ lower: TreePath) throws(Errno) {
        try log.perform([.metadata(lower, value)], isDeletion: value == LowerMetadata())
        log.remembered.setMetadata(value, lower)
        log.compactIfLong()
    }

    // MARK: Making

    /// A name in the hidden place for something that is being made; nobody else has it.
    package func workPlace() throws(Errno) -> (folder: OwnedDescriptor, name: [UInt8]) {
        let number = workCount.wrappingAdd(1, ordering: .relaxed).newValue
        return (try log.work(), Array("\(session).\(number)".utf8))
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

    package func usage() throws(Errno) -> statvfs {
        var result = statvfs()
        _ = try retryingOnInterrupt { fstatvfs(directory.rawValue, &result) }
        return result
    }

    package var rootObject: UpperObject { .descriptor(directory) }

    package var isOnOverlay: Bool { mcfs_is_on_overlay(directory.rawValue) != 0 }
}

/// What a rename does on the disk.
extension Rename {
    func perform(
        _ fromName: [UInt8], _ from: OwnedDescriptor, _ toName: [UInt8], _ to: OwnedDescriptor, dropsDirectory: Bool
    ) throws(Errno) {
        switch (moves, movesBack) {
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

    /// Does what a rename left undone when the daemon was killed. What is not there any more was moved by then, or by
    /// somebody else.
    /// - Throws: what the disk says to it, as it would have said before: the rename never came to be.
    func finish(root: OwnedDescriptor) throws(Errno) {
        guard let (from, to) = ends(below: root), isUndone(from, to) else { return }
        try perform(
            from.name, from.folder, to.name, to.folder,
            dropsDirectory: to.status.map { $0.st_mode & S_IFMT == S_IFDIR } ?? false)
    }

    /// Whether the disk has not followed yet.
    func isUndone(root: OwnedDescriptor) -> Bool { ends(below: root).map { isUndone($0, $1) } ?? false }

    private typealias End = (folder: OwnedDescriptor, name: [UInt8], status: stat?)

    private func ends(below root: OwnedDescriptor) -> (from: End, to: End)? {
        func end(_ path: TreePath) throws(Errno) -> End {
            var folder = root
            for name in path.components.dropLast() {
                folder = try .open(bytes: name, at: folder, mcfs_o_path | O_DIRECTORY | O_NOFOLLOW)
            }
            return (folder, path.name, try? UpperObject.name(path.name, in: folder).status())
        }
        guard needsUpper, let from = try? end(from), let to = try? end(to) else { return nil }
        return (from, to)
    }

    private func isUndone(_ from: End, _ to: End) -> Bool {
        if let inode = moves, from.status.map({ UInt64($0.st_ino) }) != inode { return false }
        if let inode = movesBack ?? drops, to.status.map({ UInt64($0.st_ino) }) != inode { return false }
        return true
    }
}
