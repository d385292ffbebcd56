internal import CFUSE
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
    /// Set before the session serves.
    let pages = Mutex<PageDropper?>(nil)
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
                interrupted: {}))
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
        skipsOpendir.store(offers(FUSE_CAP_NO_OPENDIR_SUPPORT), ordering: .relaxed)
        wire.offersParallelDirectories.store(offers(FUSE_CAP_PARALLEL_DIROPS), ordering: .relaxed)
        // The kernel's default of 12 would bound how much read-ahead is under way.
        connection.max_background = 128
        connection.congestion_threshold = 96
    }

    /// The reply to INIT has left: the kernel works with what was agreed.
    func markInitialized() {
        initialized.store(true, ordering: .releasing)
        changed.update { _ in }
    }

    /// One open of `node` is gone.
    func release(_ node: Node) {
        modes.release(node.number)
        fileSystem.release(node)
    }

    /// Makes the kernel forget, soon, what it cached of a file that it reads by itself from now on.
    func dropPages(of node: Node) { pages.withLock { $0 }?.add(node.number) }

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
