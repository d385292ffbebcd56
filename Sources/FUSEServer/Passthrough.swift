internal import CLinux
internal import Glibc
internal import MCFSCore
internal import Synchronization

/// FUSE passthrough (Linux 6.9): the kernel reads and maps a complete file from the cache's file by itself. Nothing of
/// such a file comes through the daemon, and its pages are in memory once, as those of the cache's file.
///
/// The kernel's rules, which `IOModes` keeps: Documentation/filesystems/fuse-passthrough.rst of Linux.
final class Passthrough: Sendable {
    /// /dev/fuse of the session; it outlives every backing file, see `ServingLoop.clearAway`.
    private let device: Lock<CInt?> = Lock(nil)
    /// The upper by a mount that leaves access times alone, or notes each, where that is wanted: the kernel reads a file by the
    /// mount that it was opened by.
    private let clone = Lock<OwnedDescriptor?>(nil)

    /// Linux: `FUSE_DEV_IOC_BACKING_OPEN`, `FUSE_DEV_IOC_BACKING_CLOSE`.
    private static let openRequest: UInt = 0x4010_e501
    private static let closeRequest: UInt = 0x4004_e502

    /// Whether files are passed through.
    var isOn: Bool { device.withLock { $0 != nil } }

    /// Begins to pass files through, if the kernel agrees: it wants CAP_SYS_ADMIN outside of user namespaces, and a
    /// file system whose files it can stack on.
    ///
    /// - Parameter sample: a file of the file system that the files will be on.
    /// - Returns: what speaks against it; nil where it is on.
    func start(device descriptor: CInt, sample: OwnedDescriptor) -> Errno? {
        do throws(Errno) {
            withExtendedLifetime(try BackingFile(sample, device: descriptor)) {}
            device.withLock { $0 = descriptor }
            return nil
        } catch {
            return error
        }
    }

    /// - Parameter strictly: from now on, each read of a file of the upper changes its access time; else none does.
    func noteAccessTimes(below upper: OwnedDescriptor, strictly: Bool) {
        let made = mcfs_clone_with_access_times(upper.rawValue, strictly ? 1 : 0)
        if made >= 0 { clone.withLock { $0 = OwnedDescriptor(owning: made) } }
    }

    func stop() {
        device.withLock { $0 = nil }
        let last = clone.withLock { $0.take() }
        withExtendedLifetime(last) {}
    }

    /// As `register`, of a file of the upper.
    func register(upper file: OwnedDescriptor, dropsSetID: Bool) -> BackingFile? {
        let other = clone.withLock { $0.map { mcfs_open_in($0.rawValue, file.rawValue, O_RDWR | O_NONBLOCK) } } ?? -1
        return register(other < 0 ? file : OwnedDescriptor(owning: other), dropsSetID: dropsSetID)
    }

    /// - Parameter dropsSetID: writes take set-id bits from the file, as those of an ordinary user do.
    /// - Returns: nil where it is off or the kernel refuses this file: it is then read through the daemon.
    func register(_ file: OwnedDescriptor, dropsSetID: Bool = false) -> BackingFile? {
        guard let descriptor = device.withLock({ $0 }) else { return nil }
        return try? BackingFile(file, device: descriptor, dropsSetID: dropsSetID)
    }

    /// A file that the kernel may read by itself. The kernel keeps it as long as this lives, and beyond that for what is
    /// still open, also when it is unlinked.
    final class BackingFile: Sendable {
        let identifier: Int32
        let dropsSetID: Bool
        private let device: CInt

        fileprivate init(_ file: OwnedDescriptor, device: CInt, dropsSetID: Bool = false) throws(Errno) {
            // struct fuse_backing_map: fd, flags, padding.
            var map: (descriptor: Int32, flags: UInt32, padding: UInt64) = (file.rawValue, 0, 0)
            // The kernel writes with the rights of the thread that gives it the file, whoever writes.
            identifier = try retryingOnInterrupt {
                dropsSetID
                    ? mcfs_ioctl_dropping_set_id(device, Passthrough.openRequest, &map)
                    : mcfs_ioctl(device, Passthrough.openRequest, &map)
            }
            self.dropsSetID = dropsSetID
            self.device = device
        }

        deinit {
            var identifier = UInt32(bitPattern: identifier)
            _ = mcfs_ioctl(device, Passthrough.closeRequest, &identifier)
        }
    }
}
