internal import CFUSE
internal import Glibc
internal import MCFSCore
internal import MountFS

extension Reply {
    /// nil: there is no such name, which the kernel may remember.
    consuming func send(entry: NodeAttributes?) {
        var parameters = fuse_entry_param()
        if let entry { parameters = fuse_entry_param(entry) } else { parameters.entry_timeout = Operations.validity }
        fuse_reply_entry(request, &parameters)
        discard self
    }

    consuming func send(attributes: NodeAttributes) {
        var status = stat(attributes)
        fuse_reply_attr(request, &status, Operations.validity)
        discard self
    }

    consuming func send(_ usage: statvfs) {
        withUnsafePointer(to: usage) { _ = fuse_reply_statfs(request, $0) }
        discard self
    }

    /// The kernel reads through this server and keeps what it has in its page cache: content never changes.
    /// - Returns: false where the opener was interrupted: the kernel knows nothing of this open.
    consuming func send(cachedOpen info: UnsafeMutablePointer<fuse_file_info>) -> Bool {
        info.pointee.keep_cache = 1
        let result = fuse_reply_open(request, info)
        discard self
        return result == 0
    }

    /// The kernel reads from the backing file by itself.
    /// - Returns: as above.
    consuming func send(open info: UnsafeMutablePointer<fuse_file_info>, backing: Int32) -> Bool {
        // The kernel refuses KEEP_CACHE here.
        info.pointee.keep_cache = 0
        let request = request
        let result = WireTap.answeringOpen(withBacking: backing) { fuse_reply_open(request, info) }
        discard self
        return result == 0
    }

    /// An extended attribute, or the list of them, for a caller with `room` bytes; 0 asks for the size.
    consuming func send(_ value: [UInt8], room: Int) {
        if room == 0 {
            fuse_reply_xattr(request, value.count)
            discard self
        } else if room < value.count {
            fail(errno: ERANGE)
        } else {
            send(value)
        }
    }
}

extension fuse_entry_param {
    init(_ attributes: NodeAttributes) {
        self.init()
        ino = attributes.node.number
        attr = stat(attributes)
        attr_timeout = Operations.validity
        entry_timeout = Operations.validity
    }
}

extension stat {
    init(_ attributes: NodeAttributes) {
        self.init()
        let type: mode_t =
            switch attributes.kind {
            case .directory: S_IFDIR
            case .file: S_IFREG
            case .symlink: S_IFLNK
            case .fifo: S_IFIFO
            case .characterDevice: S_IFCHR
            case .blockDevice: S_IFBLK
            }
        st_ino = ino_t(attributes.node.number)
        st_mode = type | mode_t(attributes.permissions)
        st_nlink = nlink_t(attributes.linkCount)
        st_uid = attributes.uid
        st_gid = attributes.gid
        st_rdev = dev_t(attributes.device)
        st_size = off_t(clamping: attributes.size)
        // Larger reads for those who ask what suits: `cp`, stdio.
        st_blksize = attributes.kind == .file ? 1 << 20 : 4096
        st_blocks = blkcnt_t(clamping: attributes.size / 512 + (attributes.size % 512 == 0 ? 0 : 1))
        let time = timespec(
            tv_sec: Int(attributes.modified.seconds), tv_nsec: Int(min(attributes.modified.nanoseconds, 999_999_999)))
        st_atim = time
        st_mtim = time
        st_ctim = time
    }
}
