internal import CFUSE
internal import Glibc
internal import Logging
internal import MCFSCore
internal import MountFS
internal import Synchronization

/// What the callbacks of one session work with; libfuse's user data.
final class ServingContext: Sendable {
    let fileSystem: MountFS
    let pending: PendingReplies
    let logger: Logger
    let wire = WireTap()
    let passthrough = Passthrough()
    let modes = IOModes()
    /// Waits for the network.
    let copying = WaitingThreads("mcfs-copy")
    /// Waits for the disk.
    let syncing = WaitingThreads("mcfs-fsync")
    /// Waits for reads in flight.
    private let dropping = WaitingThreads("mcfs-pages", threadsMax: 1)
    let lookout = Lookout()
    /// Makes the kernel forget the pages of a node; may block. Set before the session serves.
    let forgetPages = Lock<(@Sendable (Node) -> Void)?>(nil)
    /// Signalled when `isInitialized` becomes true.
    let changed = Guarded(())

    private let initialized = Atomic<Bool>(false)
    private let skipsOpendir = Atomic<Bool>(false)

    init(_ fileSystem: MountFS, logger: Logger) {
        self.fileSystem = fileSystem
        self.logger = logger
        pending = PendingReplies(
            observer: PendingReplies.Observer(
                succeeded: { fileSystem.readSucceeded(bytes: $0) },
                failed: { error in
                    fileSystem.readFailed()
                    Self.log(error, operation: "read", node: nil, to: logger)
                },
                interrupted: {}), lookout: lookout)
    }

    /// Makes the threads that the mount has until its end, so that nothing in between depends on whether there is one left.
    func startThreads() throws(Errno) {
        try lookout.start()
        if wire.offersPassthrough { try dropping.start() }
        guard fileSystem.overlay != nil else { return }
        try copying.start()
        try syncing.start()
    }

    func endThreads() {
        for threads in [dropping, copying, syncing] { threads.end() }
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
        skipsOpendir.store(offers(FUSE_CAP_NO_OPENDIR_SUPPORT) && fileSystem.overlay == nil, ordering: .relaxed)
        if fileSystem.overlay != nil {
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
        _ node: Node, flags: CInt, copy: OwnedDescriptor? = nil, by caller: Overlay.Caller
    ) -> Result<IOModes.Opening, Errno> {
        if let overlay = fileSystem.overlay {
            do throws(Errno) {
                return try overlay.open(node, flags: flags, copy: copy, by: caller) {
                    opening($0, of: node, writer: flags & O_ACCMODE != O_RDONLY ? caller.uid : nil)
                }
            } catch { return .failure(error) }
        }
        do throws(MCFSError) { return opening(try fileSystem.open(node), of: node) } catch {
            report(error, operation: "open", node: node.number)
            return .failure(Errno(rawValue: error.errno))
        }
    }

    /// How the kernel shall read and write a file that was just opened.
    ///
    /// - Parameter writer: who opened it for writing.
    /// - Returns: EIO where the kernel reads bytes by itself, for others, that turned out wrong. Nothing is open then.
    func opening(
        _ opened: MountFS.Opened, of node: Node, writer: UInt32? = nil
    ) -> Result<IOModes.Opening, Errno> {
        let handle = if case .lower(let file) = opened { file.handle } else { UInt64(0) }
        let isWritable = if case .upper = opened { true } else { false }
        let bytes = isWritable ? .max : fileSystem.storedBytes(of: node)
        var opening: IOModes.Opening
        do throws(Errno) {
            opening = try modes.open(
                node.number, isWritable: isWritable, leavesPages: bytes >= Self.droppedBytesMin, handle: handle,
                writer: writer
            ) { register(opened, of: node, bytes: bytes) }
        } catch {
            fileSystem.release(node)
            return .failure(error)
        }
        opening.handle = handle
        if fileSystem.hasUncertainPages(node) { opening.keepsPages = false }
        return .success(opening)
    }

    /// What the kernel shall read by itself.
    private func register(_ opened: MountFS.Opened, of node: Node, bytes: UInt64) -> Passthrough.BackingFile? {
        switch opened {
        case .lower(let file):
            isPassedThrough(node, bytes: bytes) ? file.completeFile.flatMap { passthrough.register($0) } : nil
        // Who writes to a set-id program takes that from it, which the daemon must see.
        case .upper(let file):
            (try? file.status().st_mode).map { $0 & 0o6000 == 0 } == true ? passthrough.register(file) : nil
        case .unread, .empty: nil
        }
    }

    /// Small files are better off in the page cache: opening them again costs no more than the request.
    ///
    /// Where files can be written to, that is so for larger ones as well. A file that the kernel reads by itself cannot be
    /// written to under its readers: who opened it before its first write goes on reading what it was. In the page cache, all
    /// see what is written.
    private func isPassedThrough(_ node: Node, bytes: UInt64) -> Bool {
        guard let overlay = fileSystem.overlay else { return bytes >= Self.passedThroughBytesMin }
        // Its copy gets all names at once; the kernel looks up only the one that is written to.
        return bytes >= Self.passedThroughWritableBytesMin && !overlay.hasSeveralNames(node)
    }

    /// Of files of the tree: where they cannot be written to, and where they can.
    private static let passedThroughBytesMin = MountFS.smallBytes
    private static let passedThroughWritableBytesMin: UInt64 = 1 << 20
    /// Pages of less are left to the kernel, which forgets them when it needs the memory.
    private static let droppedBytesMin: UInt64 = 1 << 20

    /// One open of `node` is gone.
    func release(_ node: Node) {
        modes.release(node.number)
        fileSystem.release(node)
    }

    /// The kernel has forgotten a node so often.
    func forget(_ node: Node, _ count: UInt64) {
        guard let overlay = fileSystem.overlay else { return }
        if overlay.forget(node, count) { modes.forget(node.number) }
    }

    /// Makes the kernel forget, soon, what it cached of a file that it reads by itself from now on.
    func dropPages(of node: Node) {
        guard let forget = forgetPages.withLock({ $0 }) else { return }
        dropping.run { forget(node) }
    }

    /// A copy into the upper that failed. - Returns: the errno for who waits for it.
    func report(_ error: Overlay.CopyError, node: UInt64) -> CInt {
        switch error {
        case .errno(let errno):
            if errno != .interrupted && errno.rawValue != ESTALE {
                logger.warning(
                    "a file could not be copied into the upper", metadata: ["ino": "\(node)", "errno": "\(errno)"])
            }
            return errno.rawValue
        case .content(let error):
            report(error, operation: "copy-up", node: node)
            return error.code.errno
        }
    }

    /// A request that failed; said once, where it is answered.
    func report(_ error: MCFSError, operation: String, node: UInt64) {
        Self.log(error, operation: operation, node: node, to: logger)
    }

    private static func log(_ error: MCFSError, operation: String, node: UInt64?, to logger: Logger) {
        var metadata: Logger.Metadata = [
            "op": "\(operation)", "code": "\(error.code.rawValue)", "errno": "\(Errno(rawValue: error.code.errno))",
            "error": "\(error)",
        ]
        if let node { metadata["ino"] = "\(node)" }
        // Who unmounts knows; who asks for a name that is not there does too.
        let level: Logger.Level = error.code == .cancelled || error.code == .notFound ? .debug : .warning
        logger.log(level: level, "a request of the mount failed", metadata: metadata)
    }
}
