internal import CFUSE
internal import Glibc
internal import MCFSCore
internal import MountFS

extension Reply {
    /// nil: there is no such name, which the kernel may remember.
    /// - Returns: false where the kernel did not take it: it knows nothing of the entry.
    @discardableResult
    consuming func send(entry: NodeAttributes?, _ context: ServingContext) -> Bool {
        var parameters = fuse_entry_param()
        if let entry {
            parameters = fuse_entry_param(entry, validity: context.validity(of: entry))
        } else {
            parameters.entry_timeout = Operations.validity
        }
        let result = fuse_reply_entry(request, &parameters)
        discard self
        return result == 0
    }

    consuming func send(attributes: NodeAttributes, _ context: ServingContext) {
        var status = stat(attributes)
        fuse_reply_attr(request, &status, context.validity(of: attributes))
        discard self
    }

    consuming func send(_ usage: statvfs) {
        withUnsafePointer(to: usage) { _ = fuse_reply_statfs(request, $0) }
        discard self
    }

    /// An open file; with `entry` one that was just made.
    /// - Returns: false where the opener was interrupted: the kernel knows nothing of this open.
    consuming func send(_ opening: IOModes.Opening, _ info: fuse_file_info, entry: fuse_entry_param? = nil) -> Bool {
        var info = info
        info.fh = opening.handle
        // There is nothing to flush: what is written is with the disk's file system at once.
        info.noflush = 1
        var parameters = entry
        let request = request
        func answer() -> CInt {
            if parameters != nil { return fuse_reply_create(request, &parameters!, &info) }
            return fuse_reply_open(request, &info)
        }
        let result: CInt
        switch opening.mode {
        case .cached:
            // The kernel keeps what it has in its page cache: nobody else changes content.
            info.keep_cache = opening.keepsPages ? 1 : 0
            result = answer()
        case .passthrough(let file):
            // The kernel reads from the backing file by itself, and refuses KEEP_CACHE here.
            info.keep_cache = 0
            result = WireTap.answeringOpen(withBacking: file.identifier) { answer() }
        }
        discard self
        return result == 0
    }

    /// An open directory.
    consuming func send(openDirectory info: fuse_file_info) -> Bool {
        var info = info
        let result = fuse_reply_open(request, &info)
        discard self
        return result == 0
    }

    consuming func send(written count: Int) {
        fuse_reply_write(request, count)
        discard self
    }

    consuming func send(position: Int64) {
        fuse_reply_lseek(request, off_t(position))
        discard self
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
    /// - Parameter validity: how long the kernel may keep the attributes, in seconds.
    init(_ attributes: NodeAttributes, validity: Double) {
        self.init()
        ino = attributes.node.number
        generation = attributes.generation
        attr = stat(attributes)
        attr_timeout = validity
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
            case .socket: S_IFSOCK
            }
        st_ino = ino_t(attributes.inode)
        st_mode = type | mode_t(attributes.permissions)
        st_nlink = nlink_t(attributes.linkCount)
        st_uid = attributes.uid
        st_gid = attributes.gid
        st_rdev = dev_t(attributes.device)
        st_size = off_t(clamping: attributes.size)
        // Larger reads for those who ask what suits: `cp`, stdio.
        st_blksize = attributes.kind == .file ? 1 << 20 : 4096
        st_blocks = blkcnt_t(clamping: attributes.blocks)
        st_atim = timespec(attributes.accessed)
        st_mtim = timespec(attributes.modified)
        st_ctim = timespec(attributes.changed)
    }
}

extension timespec {
    fileprivate init(_ time: Timestamp) {
        self.init(tv_sec: Int(time.seconds), tv_nsec: Int(min(time.nanoseconds, 999_999_999)))
    }
}
