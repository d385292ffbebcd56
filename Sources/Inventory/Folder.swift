internal import CLinux
internal import Glibc
internal import MCFSCore

/// An open directory. What is in it is reached by its name from here, and a symbolic link is never followed. Names are
/// any bytes.
struct Folder {
    /// What tells whether a file or directory is still the one that was seen.
    struct Stamp: Hashable {
        var inode: UInt64
        /// Bytes.
        var size: UInt64
        /// Nanoseconds since 1970.
        var modified: Int64
        /// When content, owner, mode or name changed last; nobody can set it back.
        var changed: Int64

        init(_ status: stat) {
            inode = UInt64(status.st_ino)
            size = UInt64(clamping: status.st_size)
            modified = Self.nanoseconds(status.st_mtim)
            changed = Self.nanoseconds(status.st_ctim)
        }

        private static func nanoseconds(_ time: timespec) -> Int64 {
            let (seconds, overflow) = Int64(time.tv_sec).multipliedReportingOverflow(by: 1_000_000_000)
            return overflow ? (time.tv_sec < 0 ? .min : .max) : seconds.addingClamped(Int64(time.tv_nsec))
        }

        /// As the inventory keeps it.
        var bytes: [UInt8] {
            [inode, size, UInt64(bitPattern: modified), UInt64(bitPattern: changed)].flatMap { word in
                withUnsafeBytes(of: word.littleEndian, Array.init)
            }
        }

        var newest: Int64 { max(modified, changed) }

        /// Whether nobody wrote to it or put another in its place. Another of its names may have come or gone.
        func hasSameContent(as other: Stamp) -> Bool {
            (inode, size, modified) == (other.inode, other.size, other.modified)
        }
    }

    struct Item {
        var name: [UInt8]
        var status: stat
        var stamp: Stamp { Stamp(status) }
        /// Seconds since it was written, or until then.
        func age(_ now: Timestamp) -> UInt64 {
            now.seconds.subtractingClamped(Int64(status.st_mtim.tv_sec)).magnitude
        }
        var isFolder: Bool { status.st_mode & S_IFMT == S_IFDIR }
        var isFile: Bool { status.st_mode & S_IFMT == S_IFREG }
        var isLink: Bool { status.st_mode & S_IFMT == S_IFLNK }
    }

    /// How names begin that mcfs itself puts into folders; they are of no cache.
    static let ownPrefix = ".mcfs-"

    private let descriptor: OwnedDescriptor

    /// - Parameter path: a link at its end is followed.
    init(at path: String) throws(Errno) { descriptor = try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY) }

    private init(_ descriptor: OwnedDescriptor) { self.descriptor = descriptor }

    func folder(_ name: [UInt8]) throws(Errno) -> Folder {
        Folder(try open(name, O_RDONLY | O_DIRECTORY))
    }

    /// The folder at a path below, `/` between names; itself for an empty one.
    func folder(at path: [UInt8]) throws(Errno) -> Folder {
        var folder = self
        for name in path.split(separator: UInt8(ascii: "/")) { folder = try folder.folder(Array(name)) }
        return folder
    }

    func status() throws(Errno) -> stat { try descriptor.status() }

    func status(of name: [UInt8]) throws(Errno) -> stat {
        var status = stat()
        try call(name) { fstatat(descriptor.rawValue, $0, &status, AT_SYMLINK_NOFOLLOW) }
        return status
    }

    /// Without `.` and `..`, in no order. What vanishes on the way was not there.
    func items() throws(Errno) -> [Item] {
        // A descriptor of its own: listing moves its position.
        let own = try retryingOnInterrupt { openat(descriptor.rawValue, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        guard let stream = fdopendir(own) else {
            let error = Errno.current
            close(own)
            throw error
        }
        defer { closedir(stream) }
        var items: [Item] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                let error = Errno.current
                if error.rawValue != 0 { throw error }
                return items
            }
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            if name.elementsEqual(".".utf8) || name.elementsEqual("..".utf8) { continue }
            do throws(Errno) { items.append(Item(name: name, status: try status(of: name))) } catch {
                if error != .noEntry { throw error }
            }
        }
    }

    /// The first bytes of a regular file, and what it was when it was opened. It is no use of the file: its access time
    /// stays, where that is ours to say.
    func read(_ name: [UInt8], bytesMax: Int) throws(Errno) -> (bytes: [UInt8], status: stat) {
        let (file, status) = try openFile(name)
        var bytes = [UInt8](repeating: 0, count: min(bytesMax, Int(clamping: status.st_size)))
        let count = try bytes.withBytes { buffer throws(Errno) in try file.read(into: buffer, at: 0) }
        return (Array(bytes.prefix(count)), status)
    }

    /// Whether a regular file of this name is here and there, with the same bytes.
    func hasSameFile(_ name: [UInt8], as other: Folder) throws(Errno) -> Bool {
        let (one, two) = (try openFile(name).file, try other.openFile(name).file)
        var buffers = (one: [UInt8](repeating: 0, count: 1 << 17), two: [UInt8](repeating: 0, count: 1 << 17))
        var offset: UInt64 = 0
        while true {
            let count = try buffers.one.withBytes { buffer throws(Errno) in try one.read(into: buffer, at: offset) }
            let same = try buffers.two.withBytes { buffer throws(Errno) in try two.read(into: buffer, at: offset) }
            guard count == same, buffers.one.prefix(count).elementsEqual(buffers.two.prefix(count)) else {
                return false
            }
            if count == 0 { return true }
            offset += UInt64(count)
        }
    }

    private func openFile(_ name: [UInt8]) throws(Errno) -> (file: OwnedDescriptor, status: stat) {
        // A FIFO in the place of a file must not be waited for.
        let flags = O_RDONLY | O_NONBLOCK
        let file: OwnedDescriptor
        do throws(Errno) { file = try open(name, flags | mcfs_o_noatime) } catch {
            guard error.rawValue == EPERM else { throw error }
            file = try open(name, flags)
        }
        let status = try file.status()
        guard status.st_mode & S_IFMT == S_IFREG else { throw Errno(rawValue: EINVAL) }
        return (file, status)
    }

    // MARK: - Changes

    /// Makes a file that is not there yet, with the mode, owner and times of another. Not synced, as engines do not sync
    /// theirs.
    func write(_ name: [UInt8], _ bytes: [UInt8], like other: stat) throws(Errno) {
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        let file = OwnedDescriptor(
            owning: try retryingOnInterrupt { withCString(name) { openat(descriptor.rawValue, $0, flags, 0o600) } })
        // Only root can give a file away; anybody else writes files of their own.
        _ = fchown(file.rawValue, other.st_uid, other.st_gid)
        _ = try retryingOnInterrupt { fchmod(file.rawValue, other.st_mode & 0o7777) }
        try bytes.withBytes { buffer throws(Errno) in try file.write(buffer, at: 0) }
        _ = try retryingOnInterrupt { futimens(file.rawValue, [other.st_atim, other.st_mtim]) }
    }

    func rename(_ name: [UInt8], to new: [UInt8]) throws(Errno) {
        _ = try retryingOnInterrupt {
            withCString(name) { name in
                withCString(new) { new in renameat(descriptor.rawValue, name, descriptor.rawValue, new) }
            }
        }
    }

    func remove(_ name: [UInt8]) throws(Errno) { try call(name) { unlinkat(descriptor.rawValue, $0, 0) } }

    /// - Throws: `ENOTEMPTY`.
    func removeFolder(_ name: [UInt8]) throws(Errno) {
        try call(name) { unlinkat(descriptor.rawValue, $0, AT_REMOVEDIR) }
    }

    /// Removes a folder and all that is below it.
    ///
    /// - Returns: bytes of its files.
    func removeTree(_ name: [UInt8]) throws(Errno) -> UInt64 {
        let folder = try folder(name)
        var bytes: UInt64 = 0
        for item in try folder.items() {
            if item.isFolder {
                try bytes.addClamped(folder.removeTree(item.name))
            } else {
                try folder.remove(item.name)
                if item.isFile { bytes.addClamped(item.stamp.size) }
            }
        }
        try removeFolder(name)
        return bytes
    }

    /// Sets the folder's own times back to what they were.
    func setTimes(_ status: stat) throws(Errno) {
        let times = [status.st_atim, status.st_mtim]
        _ = try retryingOnInterrupt { futimens(descriptor.rawValue, times) }
    }

    // MARK: - Calls

    private func open(_ name: [UInt8], _ flags: CInt) throws(Errno) -> OwnedDescriptor {
        OwnedDescriptor(
            owning: try retryingOnInterrupt {
                withCString(name) { openat(descriptor.rawValue, $0, flags | O_NOFOLLOW | O_CLOEXEC) }
            })
    }

    private func call(_ name: [UInt8], _ body: (UnsafePointer<CChar>) -> CInt) throws(Errno) {
        _ = try retryingOnInterrupt { withCString(name, body) }
    }
}

/// The name as C has it: names need not be UTF-8, so no `String` is in between.
private func withCString(_ name: [UInt8], _ body: (UnsafePointer<CChar>) -> CInt) -> CInt {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: name.count + 1) { buffer in
        for (index, byte) in name.enumerated() { buffer[index] = CChar(bitPattern: byte) }
        buffer[name.count] = 0
        guard let start = buffer.baseAddress else { return -1 }
        return body(start)
    }
}
