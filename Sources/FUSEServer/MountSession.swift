internal import CFUSE
package import MCFSCore
package import MountFS

/// One FUSE mount: mounts, serves on its own threads, unmounts.
package final class MountSession: Sendable {
    package struct Options: Sendable {
        package var allowOther = false
        package var threads = 8
        /// Shown as the device in /proc/mounts.
        package var sourceName = "mcfs"
        package init() {}
    }

    /// Mounts; on return the kernel can be asked for the root.
    ///
    /// `ended` is called once, from a thread of the session, when the mount is gone: by `unmount`, by `umount(8)`, or by the kernel.
    package init(_ fileSystem: MountFS, at mountpoint: String, options: Options, ended: @escaping @Sendable () -> Void) throws(MCFSError) {
        throw MCFSError(.unsupported, "not written yet")
    }

    /// Unmounts. `force` also where files are open or reads hang: they fail, the mountpoint is free on return.
    package func unmount(force: Bool) throws(MCFSError) {}
}
