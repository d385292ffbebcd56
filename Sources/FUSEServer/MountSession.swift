internal import CFUSE
internal import Glibc
package import Logging
package import MCFSCore
package import MountFS
internal import Upper

/// One FUSE mount: mounts, serves on its own threads, unmounts.
///
/// No thread of it waits for the network: a read that misses is answered by whoever fetched its bytes. Dropping the
/// value leaves the mount in place; it lives until it is unmounted or the process ends.
package final class MountSession: Sendable {
    package struct Options: Sendable {
        package var allowOther = false
        /// Most threads that answer requests at once.
        package var threadsMax = 8
        /// A file of the file system that the cache's files are on, where the kernel shall read complete files by
        /// itself if it can; nil: all reads come here.
        package var passthroughSample: OwnedDescriptor?
        /// Shown as the device in /proc/mounts.
        package var sourceName = "mcfs"
        /// Of the kernel's, such as `noexec`.
        package var kernelOptions: [String] = []
        /// The kernel refuses to change anything.
        package var isReadOnly = false
        /// The directory at the mountpoint, opened before; nil: whatever is there by now.
        package var directory: OwnedDescriptor?
        /// Whose handler takes what libfuse says of any mount, too.
        package var logger = Logger(label: "mcfs.fuse")
        package init() {}
    }

    /// A read of the mount that waits for bytes.
    package struct WaitingRead: Sendable {
        package var node: Node
        /// nil where it is in another PID namespace.
        package var thread: Int32?
        package var duration: Duration
    }

    /// Reads that wait for bytes now, longest first.
    package var waitingReads: [WaitingRead] {
        let now = ContinuousClock.now
        return context.pending.reads.map { read in
            WaitingRead(node: read.node, thread: read.thread > 0 ? read.thread : nil, duration: now - read.began)
        }
    }

    /// KiB that the kernel reads ahead of a sequential reader, and around a page fault: enough for requests of 1 MiB to
    /// overlap, not so much that a fault in a mapped file pulls in far more than it needs.
    static let readAheadKibibytes = 2048

    /// How long the kernel may take to say its first word, and a loop to end once its mount is gone.
    private static let patience = Duration.seconds(10)

    /// Absolute, without symbolic links.
    package let mountpoint: String
    private let context: ServingContext
    private let loop: ServingLoop
    private let kernelMount: KernelMount?

    /// Mounts; on return the kernel can be asked for the root.
    ///
    /// `ended` is called once, from a thread of the session, when the mount is gone: by `unmount`, by `umount(8)`, or by
    /// the kernel. It is not called where this throws.
    /// - Throws: `cannotCreate`; nothing is left mounted.
    package init(
        _ fileSystem: MountFS, at mountpoint: String, options: Options, ended: @escaping @Sendable () -> Void
    ) throws(MCFSError) {
        LibraryLog.install(options.logger)
        self.mountpoint = try Self.resolve(mountpoint, options.directory)
        try Self.checkDevice(mountpoint: mountpoint)
        var logger = options.logger
        logger[metadataKey: "mount"] = "\(self.mountpoint)"
        let leavesAccessTimes = options.kernelOptions.contains("noatime")
        context = ServingContext(fileSystem, leavesAccessTimes: leavesAccessTimes, logger: logger)
        let upper = fileSystem.overlay?.upper
        if let sample = options.passthroughSample {
            context.wire.offerPassthrough(on: sample, alsoOnOverlay: upper?.isOnOverlay ?? false)
        }

        // The loop's thread holds it until libfuse has made its last callback.
        let userdata = Unmanaged.passRetained(context)
        let session: OpaquePointer
        do throws(MCFSError) {
            session = try Self.mount(
                at: self.mountpoint, options: options, isReadOnly: upper == nil || options.isReadOnly,
                userdata: userdata.toOpaque())
        } catch {
            userdata.release()
            throw error
        }
        let isUp = Flag()
        let kernelMount = KernelMount(at: self.mountpoint)
        self.kernelMount = kernelMount
        loop = ServingLoop(session: session, context: context, threadsMax: options.threadsMax) {
            userdata.release()
            // libfuse leaves the mount of a connection that somebody took away.
            if let kernelMount, kernelMount.isOnTop { _ = KernelMount.unmount(kernelMount.mountpoint, force: true) }
            if isUp.isSet { ended() }
        }
        do throws(Errno) { try loop.start() } catch {
            throw MCFSError(
                .cannotCreate, "cannot mount on \(mountpoint): \(MCFSError(noThread: error).message)", cause: error,
                isTransient: true)
        }
        isUp.set()
        guard loop.waitForInitialization(Self.patience) else {
            isUp.clear()
            _ = KernelMount.unmount(self.mountpoint, force: true)
            throw MCFSError(
                .cannotCreate, "cannot mount on \(mountpoint): the kernel did not begin to talk to the mount")
        }
        if let sample = options.passthroughSample, let reason = loop.startPassthrough(sample) {
            logger.info(
                "the kernel cannot read complete files by itself; they are read through the daemon",
                metadata: ["reason": "\(reason)"])
        }
        if geteuid() == 0, !MountFlags.unknownToLibrary.isDisjoint(with: options.kernelOptions) {
            try? remount(readOnly: options.isReadOnly || upper == nil, options: options.kernelOptions)
        }
        let isStrict = options.kernelOptions.contains("strictatime")
        if leavesAccessTimes || isStrict, let upper {
            context.passthrough.noteAccessTimes(below: upper.directory, strictly: !leavesAccessTimes)
        }
        if let kernelMount, !kernelMount.setReadAhead(kibibytes: Self.readAheadKibibytes) {
            logger.debug("the kernel's read-ahead stays as it is: /sys is not writable")
        }
    }

    /// Whether the kernel reads complete files from the cache by itself.
    package var isPassingThrough: Bool { context.passthrough.isOn }

    /// The mounts that the mount namespace of this process has now.
    package struct Listed: Sendable {
        fileprivate let keys = KernelMount.listed()
        package init() {}
    }

    /// Whether the mount is among them.
    package func isInPlace(among listed: Listed = Listed()) -> Bool {
        kernelMount.map { listed.keys.contains($0.key) } ?? true
    }

    /// Gives the mount other options of the kernel's; those that are not named become what they are by default.
    ///
    /// - Throws: `unauthorized` for who is not root; `busy` where files are open for writing that is to be refused.
    package func remount(readOnly: Bool, options: [String]) throws(MCFSError) {
        guard kernelMount?.isOnTop ?? true else {
            throw MCFSError(.busy, "something else is mounted over \(mountpoint); unmount that first")
        }
        if mcfs_remount(mountpoint, MountFlags.value(readOnly: readOnly, options: options)) == 0 { return }
        let error = Errno.current
        switch error.rawValue {
        case EPERM:
            throw MCFSError(
                .unauthorized, "only root can give \(mountpoint) other options; unmount and mount it instead")
        case EBUSY:
            throw MCFSError(.busy, "\(mountpoint) cannot be made read-only: files in it are open for writing")
        default: throw MCFSError(.failed, "cannot remount \(mountpoint): \(error)", cause: error)
        }
    }

    /// Processes that have the mount besides its place here; see `KernelMount.holders`.
    package func holders() -> [Int32] { kernelMount?.holders() ?? [] }

    /// Unmounts. `force` also where files are open or reads hang: they fail, the mountpoint is free on return. Where another mount
    /// namespace has the mount too, the session goes on for that, unless `force` is set.
    ///
    /// - Throws: `busy` where files are open or a process stands in it, and `force` is not set.
    package func unmount(force: Bool) throws(MCFSError) {
        if loop.isEnded { return }
        let isOnTop = kernelMount?.isOnTop ?? true
        if !isOnTop, !force, isInPlace() {
            throw MCFSError(
                .busy, "something else is mounted over \(mountpoint); unmount that first, or use --force")
        }
        if force { context.pending.close(errno: ENOTCONN) }
        // What is at the mountpoint now may be another mount.
        switch isOnTop ? KernelMount.unmount(mountpoint, force: force) : .notMounted {
        case .done, .notMounted: break
        case .busy:
            throw MCFSError(
                .busy,
                "cannot unmount \(mountpoint): a file in it is open or a process stands in it; end it, or use --force")
        case .failed(let error):
            throw MCFSError(.failed, "cannot unmount \(mountpoint): \(error)", cause: error)
        }
        // A copy of the mount in another mount namespace keeps the connection: there is nothing to wait for then.
        if loop.waitForEnd(force ? .seconds(1) : .seconds(2)) || !force { return }
        if kernelMount?.abort() == true { _ = loop.waitForEnd(Self.patience) }
    }

    /// Makes the kernel forget the pages of a tree entry's content. Waits for reads of it that are in flight; not for a thread that
    /// answers requests.
    package func forgetPages(of entry: UInt32) { loop.forgetPages(of: Node(number: UInt64(entry) + 1)) }

    /// Makes the kernel look up names of tree entries anew, and read the listings of their directories. Waits for requests
    /// that are in flight; not for a thread that answers requests.
    package func forgetNames(_ names: [(directory: UInt32, name: [UInt8])]) {
        for (directory, name) in names { loop.forget(name, in: Node(number: UInt64(directory) + 1)) }
        for directory in Set(names.map(\.directory)) { forgetPages(of: directory) }
    }

    /// Makes the kernel look up names anew, and forget attributes, pages and listings of nodes. Waits as `forgetNames`.
    package func forget(_ names: [(directory: Node, name: [UInt8])], _ nodes: Set<Node>) {
        for (directory, name) in names { loop.forget(name, in: directory) }
        for node in nodes { loop.forgetPages(of: node) }
    }

    private static func resolve(
        _ mountpoint: String, _ directory: OwnedDescriptor?
    ) throws(MCFSError) -> String {
        if let directory {
            var place = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
            let count = readlink("/proc/self/fd/\(directory.rawValue)", &place, place.count - 1)
            if count < 0 || place.prefix(count).map({ UInt8(bitPattern: $0) }) == Array(mountpoint.utf8) {
                return mountpoint
            }
            throw MCFSError(
                .cannotCreate, "\(mountpoint) was moved or replaced while the mount was made; mount again")
        }
        guard let path = realpath(mountpoint, nil) else {
            let error = Errno.current
            throw MCFSError(.cannotCreate, "cannot mount on \(mountpoint): \(error)", cause: error)
        }
        defer { free(path) }
        return String(cString: path)
    }

    private static func checkDevice(mountpoint: String) throws(MCFSError) {
        do throws(Errno) {
            _ = try OwnedDescriptor.open("/dev/fuse", O_RDWR)
        } catch {
            let remedy =
                error.rawValue == EACCES
                ? "let its users read and write it (chmod 666 /dev/fuse), or mount as root"
                : "load the fuse module (modprobe fuse), or run the container with --device /dev/fuse --cap-add SYS_ADMIN"
            throw MCFSError(
                .cannotCreate, "cannot mount on \(mountpoint): /dev/fuse cannot be opened (\(error)); \(remedy)",
                cause: error)
        }
    }

    private static func mount(
        at mountpoint: String, options: Options, isReadOnly: Bool, userdata: UnsafeMutableRawPointer
    ) throws(MCFSError) -> OpaquePointer {
        let (session, said) = LibraryLog.collecting { () -> OpaquePointer? in
            guard let session = makeSession(options, isReadOnly: isReadOnly, userdata) else { return nil }
            // fusermount3 has no descriptor of ours; it looks itself whether the directory is the user's.
            let directory = geteuid() == 0 ? options.directory.map { "/proc/self/fd/\($0.rawValue)" } : nil
            guard fuse_session_mount(session, directory ?? mountpoint) == 0 else {
                fuse_session_destroy(session)
                return nil
            }
            guard WireTap.install(in: session) == 0 else {
                fuse_session_unmount(session)
                fuse_session_destroy(session)
                return nil
            }
            return session
        }
        guard let session else {
            // What fusermount3 says goes past libfuse's log.
            if options.allowOther, getuid() != 0, !KernelMount.usersMayAllowOthers {
                throw MCFSError(
                    .cannotCreate,
                    "cannot mount on \(mountpoint) with --allow-other: /etc/fuse.conf does not let users do that; root can "
                        + "put a line 'user_allow_other' there, or leave the option away")
            }
            let reason = said.isEmpty ? "libfuse refused" : said
            let remedy = getuid() == 0 ? "; in a container, add --cap-add SYS_ADMIN" : "; install fuse3 (fusermount3)"
            throw MCFSError(.cannotCreate, "cannot mount on \(mountpoint): \(reason)\(remedy)")
        }
        return session
    }

    private static func makeSession(
        _ options: Options, isReadOnly: Bool, _ userdata: UnsafeMutableRawPointer
    ) -> OpaquePointer? {
        var text = "\(isReadOnly ? "ro" : "rw"),default_permissions,subtype=mcfs,fsname=\(escape(options.sourceName))"
        if options.allowOther { text += ",allow_other" }
        for option in options.kernelOptions where !MountFlags.unknownToLibrary.contains(option) {
            text += ",\(escape(option))"
        }
        var pointers = ["mcfs", "-o", text].map { (argument: String) in strdup(argument) }
        defer { for pointer in pointers { free(pointer) } }
        var operations = Operations.table()
        return pointers.withUnsafeMutableBufferPointer { buffer in
            var arguments = fuse_args(argc: CInt(buffer.count), argv: buffer.baseAddress, allocated: 0)
            defer { fuse_opt_free_args(&arguments) }
            return fuse_session_new(&arguments, &operations, MemoryLayout<fuse_lowlevel_ops>.size, userdata)
        }
    }

    /// Commas divide options; control characters have no place in a table of mounts.
    static func escape(_ name: String) -> String {
        var result = ""
        for scalar in name.unicodeScalars where scalar.value >= 32 {
            if scalar == "," || scalar == "\\" { result.append("\\") }
            result.unicodeScalars.append(scalar)
        }
        return result.isEmpty ? "mcfs" : result
    }
}
