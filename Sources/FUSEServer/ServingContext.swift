internal import CFUSE
internal import CLinux
internal import Glibc
internal import Logging
internal import MCFSCore
internal import MountFS
internal import Synchronization

/// What the callbacks of one session work with; libfuse's user data.
final class ServingContext: Sendable {
    let fileSystem: MountFS
    /// Of `fileSystem`.
    let files: any MountedFiles
    let pending: PendingReplies
    let logger: Logger
    let wire = WireTap()
    let passthrough = Passthrough()
    let modes = IOModes()
    let copying = CopyQueue()
    /// Waits for the disk.
    let syncing = WaitingThreads("mcfs-fsync")
    /// Waits for the disk as well: changes, where too many of them do.
    let changing = WaitingThreads("mcfs-change")
    /// Waits for reads in flight.
    private let dropping = WaitingThreads("mcfs-pages", threadsMax: 1)
    let lookout = Lookout()
    /// Makes the kernel forget the pages of a node; may block. Set before the session serves.
    let forgetPages = Lock<(@Sendable (Node) -> Void)?>(nil)
    /// Makes the kernel ask for the attributes of a node; waits for nothing. Set before the session serves.
    let forgetAttributes = Lock<(@Sendable (Node) -> Void)?>(nil)
    /// Signalled when `isInitialized` becomes true.
    let changed = Guarded(())

    private let leavesAccessTimes: Bool
    private let saidNoDescriptor = Lock<ContinuousClock.Instant?>(nil)
    private let initialized = Atomic<Bool>(false)
    private let skipsOpendir = Atomic<Bool>(false)

    /// - Parameter leavesAccessTimes: reading changes no access times (`noatime`).
    init(_ fileSystem: MountFS, leavesAccessTimes: Bool = false, logger: Logger) {
        self.fileSystem = fileSystem
        self.leavesAccessTimes = leavesAccessTimes
        files = fileSystem.files
        self.logger = logger
        pending = PendingReplies(
            observer: PendingReplies.Observer(
                succeeded: { fileSystem.readSucceeded(bytes: $0) },
                failed: { error, node in
                    fileSystem.readFailed()
                    Self.log(error, operation: "read", node: node?.number, of: fileSystem, to: logger)
                },
                interrupted: {}), lookout: lookout)
    }

    /// Makes the threads that the mount has until its end, so that nothing in between depends on whether there is one left.
    func startThreads() throws(Errno) {
        try lookout.start()
        if wire.offersPassthrough { try dropping.start() }
        guard files.isWritable else { return }
        try copying.start()
        try syncing.start()
        try changing.start()
    }

    func endThreads() {
        copying.end()
        for threads in [dropping, syncing, changing] { threads.end() }
        lookout.end()
    }

    /// The context of the session that `request` belongs to.
    static func of(_ request: OpaquePointer) -> ServingContext? { of(userdata: fuse_req_userdata(request)) }

    static func of(userdata: UnsafeMutableRawPointer?) -> ServingContext? {
        // The session's thread holds a reference until libfuse has made its last callback.
        userdata.map { Unmanaged<ServingContext>.fromOpaque($0).takeUnretainedValue() }
    }

    /// Whether the kernel has agreed on how to talk.
    var isInitialized: Bool { initialized.load(ordering: .acquiring) }

    /// Whether the kernel takes an ENOSYS of OPENDIR as "never ask again", for all directories.
    var canSkipOpendir: Bool { skipsOpendir.load(ordering: .relaxed) }

    func initialize(_ connection: inout fuse_conn_info) {
        func offers(_ capability: CInt) -> Bool { connection.capable & UInt32(capability) != 0 }
        if offers(FUSE_CAP_CACHE_SYMLINKS) { connection.want |= UInt32(FUSE_CAP_CACHE_SYMLINKS) }
        // Content never changes: nothing needs to be compared to keep pages.
        connection.want &= ~UInt32(FUSE_CAP_AUTO_INVAL_DATA)
        skipsOpendir.store(offers(FUSE_CAP_NO_OPENDIR_SUPPORT) && !files.isWritable, ordering: .relaxed)
        if files.isWritable {
            // The second version of it, which the tap asks for: with the first, the kernel asks for an attribute before
            // every write.
            connection.want &= ~UInt32(FUSE_CAP_HANDLE_KILLPRIV)
            wire.offersKillPrivileges.store(true, ordering: .relaxed)
            if offers(FUSE_CAP_POSIX_ACL) { connection.want |= UInt32(FUSE_CAP_POSIX_ACL) }
            // The umask counts only where no access control list says otherwise, which the disk knows.
            if offers(FUSE_CAP_DONT_MASK) { connection.want |= UInt32(FUSE_CAP_DONT_MASK) }
        }
        wire.offersParallelDirectories.store(offers(FUSE_CAP_PARALLEL_DIROPS), ordering: .relaxed)
        // Most that the kernel takes; it has a bound of its own for mounts by users. A read that misses waits in no thread
        // of ours, so many of them are no reason to keep others, of local bytes, from coming.
        connection.max_background = UInt32(UInt16.max)
        connection.congestion_threshold = UInt32(UInt16.max)
    }

    /// The reply to INIT has left: the kernel works with what was agreed.
    func markInitialized() {
        initialized.store(true, ordering: .releasing)
        changed.update { _ in }
    }

    /// Opens a file; what is to be written must be in the upper.
    ///
    /// - Parameter copy: what was just copied up for it.
    func open(
        _ node: Node, flags: CInt, copy: OwnedDescriptor? = nil, by caller: MountFS.Caller
    ) -> Result<IOModes.Opening, Errno> {
        var result: Result<IOModes.Opening, Errno> = .failure(.io)
        do throws(FileError) {
            try files.open(node, flags: flags, copy: copy, by: caller) {
                result = opening($0, of: node, flags: flags, by: caller)
            }
        } catch {
            return .failure(report(error, operation: "open", node: node))
        }
        if case .success(let opening) = result, opening.dropsAttributes, let forget = forgetAttributes.withLock({ $0 })
        {
            forget(node)
        }
        return result
    }

    /// How long the kernel may keep attributes, in seconds: as long as it likes where nothing changes them but what it does
    /// itself.
    ///
    /// - Parameter inListing: called by the body of `files.list`.
    func validity(of attributes: NodeAttributes, inListing: Bool = false) -> Double {
        guard attributes.kind == .file else { return Operations.validity }
        // Who writes to a set-id file takes that from it, which the kernel leaves to the server.
        if attributes.permissions & 0o6000 != 0 { return 0 }
        guard attributes.isUpper else { return Operations.validity }
        let node = attributes.node
        // The times change by what is written through a map.
        let mayBeMapped = modes.mayBeMapped(node.number, inListing: inListing) {
            files.isHeldForWriting(node, inListing: inListing)
        }
        return mayBeMapped ? 0 : Operations.validity
    }

    /// How the kernel shall read and write a file that was just opened.
    ///
    /// - Returns: EIO where the kernel reads bytes by itself, for others, that turned out wrong. Nothing is open then.
    func opening(
        _ opened: MountFS.Opened, of node: Node, flags: CInt, by caller: MountFS.Caller
    ) -> Result<IOModes.Opening, Errno> {
        if takesReserve(opened) {
            fileSystem.release(node)
            return .failure(noDescriptor())
        }
        let handle = if case .lower(let file) = opened { file.handle } else { UInt64(0) }
        let isWritable = if case .upper = opened { true } else { false }
        let bytes = isWritable ? .max : fileSystem.storedBytes(of: node)
        var opening: IOModes.Opening
        do throws(Errno) {
            opening = try modes.open(
                node.number, isWritable: isWritable, leavesPages: bytes >= Self.droppedBytesMin, handle: handle,
                writer: flags & O_ACCMODE != O_RDONLY ? caller.uid : nil, maps: flags & O_ACCMODE == O_RDWR
            ) { register(opened, of: node, bytes: bytes, by: caller) }
        } catch {
            fileSystem.release(node)
            return .failure(error)
        }
        opening.handle = isWritable ? fileSystem.newHandle() : handle
        if fileSystem.hasUncertainPages(node) { opening.keepsPages = false }
        if case .upper(let file) = opened, case .cached = opening.mode {
            // Who opened it last says what its reads do, which come here for all who have it open.
            file.leaveAccessTime(leavesAccessTimes || flags & mcfs_o_noatime != 0)
        }
        return .success(opening)
    }

    /// Whether the file is open by one of the last descriptors that the process may have.
    private func takesReserve(_ opened: MountFS.Opened) -> Bool {
        switch opened {
        case .upper(let file): DescriptorReserve.holds(file)
        case .lower: DescriptorReserve.isNext
        case .unread, .empty: false
        }
    }

    /// Says that files cannot be opened, once a minute. - Returns: what who opens one sees: not EMFILE, which is about the
    /// descriptors of the caller.
    func noDescriptor() -> Errno {
        let isNews = saidNoDescriptor.withLock { said in
            let now = ContinuousClock.now
            guard said.map({ now - $0 > .seconds(60) }) ?? true else { return false }
            said = now
            return true
        }
        if isNews {
            logger.warning(
                "files cannot be opened: the daemon may not have more descriptors; allow it more (ulimit -n, LimitNOFILE=)"
            )
        }
        return Errno(rawValue: ENFILE)
    }

    /// What the kernel shall read by itself.
    private func register(
        _ opened: MountFS.Opened, of node: Node, bytes: UInt64, by caller: MountFS.Caller
    ) -> Passthrough.BackingFile? {
        switch opened {
        case .lower(let file):
            files.mayPassThrough(node, bytes: bytes) ? file.completeFile.flatMap { passthrough.register($0) } : nil
        // Who writes to a set-id program takes that from it, which the daemon must see; but for root. Where the file becomes
        // one while it is open, the kernel does it for who opened it first.
        case .upper(let file):
            (try? file.status().st_mode).map { $0 & 0o6000 == 0 } == true
                ? passthrough.register(upper: file, dropsSetID: caller.uid != 0) : nil
        case .unread, .empty: nil
        }
    }

    /// Pages of less are left to the kernel, which forgets them when it needs the memory.
    private static let droppedBytesMin: UInt64 = 1 << 20

    /// One open of `node` is gone.
    func release(_ node: Node) {
        modes.release(node.number)
        fileSystem.release(node)
    }

    /// The kernel has forgotten a node so often.
    func forget(_ node: Node, _ count: UInt64) {
        if files.forget(node, count) { modes.forget(node.number) }
    }

    /// Makes the kernel forget, soon, what it cached of a file that it reads by itself from now on.
    func dropPages(of node: Node) {
        guard let forget = forgetPages.withLock({ $0 }) else { return }
        dropping.run { forget(node) }
    }

    /// A copy into the upper that failed. - Returns: what who waits for it sees.
    func report(failedCopy error: FileError, node: Node) -> Errno {
        if case .errno(let errno) = error, errno != .interrupted, errno.rawValue != ESTALE {
            logger.warning(
                "a file could not be copied into the upper", metadata: ["ino": "\(node.number)", "errno": "\(errno)"])
        }
        return report(error, operation: "copy-up", node: node)
    }

    /// - Returns: what who waits for the file sees.
    func report(_ error: FileError, operation: String, node: Node) -> Errno {
        switch error {
        case .errno(let errno): return errno
        case .content(let error):
            report(error, operation: operation, node: node.number)
            return Errno(rawValue: error.errno)
        }
    }

    /// A request that failed; said once, where it is answered.
    func report(_ error: MCFSError, operation: String, node: UInt64) {
        Self.log(error, operation: operation, node: node, of: fileSystem, to: logger)
    }

    private static func log(
        _ error: MCFSError, operation: String, node: UInt64?, of fileSystem: MountFS, to logger: Logger
    ) {
        var metadata: Logger.Metadata = [
            "op": "\(operation)", "code": "\(error.code.rawValue)", "errno": "\(Errno(rawValue: error.code.errno))",
            "error": "\(error)",
        ]
        // Who unmounts knows; who asks for a name that is not there does too.
        let level: Logger.Level = error.code == .cancelled || error.code == .notFound ? .debug : .warning
        guard level >= logger.logLevel else { return }
        if let node {
            metadata["ino"] = "\(node)"
            if let path = fileSystem.path(of: Node(number: node)) { metadata["path"] = "\(path)" }
        }
        logger.log(level: level, "a request of the mount failed", metadata: metadata)
    }
}

extension OwnedDescriptor {
    /// Whether reads by it leave the access time as it is.
    fileprivate func leaveAccessTime(_ leaves: Bool) {
        let flags = fcntl(rawValue, F_GETFL)
        guard flags >= 0, (flags & mcfs_o_noatime != 0) != leaves else { return }
        _ = fcntl(rawValue, F_SETFL, flags ^ mcfs_o_noatime)
    }
}
