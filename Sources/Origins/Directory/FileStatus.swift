internal import Glibc
internal import MCFSCore

/// What `lstat(2)` says of an entry, as far as it is presented or tells versions apart.
struct FileStatus: Hashable, Sendable {
    /// Type and permissions.
    var mode: UInt32
    /// Bytes.
    var size: UInt64
    var modified: Timestamp
    /// When anything of the inode changed: a time that nobody can set.
    var changed: Timestamp
    var inode: UInt64
    /// Of the file system it is on.
    var fileSystem: UInt64
    var uid: UInt32
    var gid: UInt32
    var linkCount: UInt64
    /// Of a device file.
    var device: UInt64

    init(_ status: stat) {
        mode = status.st_mode
        size = UInt64(clamping: status.st_size)
        modified = Timestamp(
            seconds: Int64(status.st_mtim.tv_sec), nanoseconds: UInt32(clamping: status.st_mtim.tv_nsec))
        changed = Timestamp(
            seconds: Int64(status.st_ctim.tv_sec), nanoseconds: UInt32(clamping: status.st_ctim.tv_nsec))
        inode = UInt64(status.st_ino)
        fileSystem = UInt64(status.st_dev)
        uid = status.st_uid
        gid = status.st_gid
        linkCount = UInt64(status.st_nlink)
        device = UInt64(status.st_rdev)
    }

    /// `S_IFREG` and so on.
    var type: UInt32 { mode & S_IFMT }

    // The layout of a 64-bit dev_t in Linux, as in makedev(3).
    var deviceMajor: UInt32 { UInt32(truncatingIfNeeded: (device >> 8 & 0xfff) | (device >> 32 & ~0xfff)) }
    var deviceMinor: UInt32 { UInt32(truncatingIfNeeded: (device & 0xff) | (device >> 12 & ~0xff)) }
}
