import Glibc
internal import CLinux
import MCFSCore

/// Where the files of the chunk cache are, below the cache directory (docs/cache-format.md#chunk-cache):
///
///     blobs/AB/ID               a whole content, checked and synced
///     fresh/TOKEN/ID            a whole content, checked and not yet synced, written under that mount (`MountToken`)
///     partial/AB/ID.SIZE        a content of which not all is there, or not yet checked and synced; the length is the file's
///     partial/AB/ID.SIZE.map    which chunks of it are there, and which are synced (`MapFile`)
///     unproven/ID               a whole content that another mount wrote: to be hashed before it is used
///     tmp/…                     a whole content being written
///
/// AB are the first two hex digits of the identity. Files move by rename, which keeps their inode. Nothing is believed that is no
/// plain file of ours, and no link is followed: what stands in the place of a folder is taken away before anything is read, so
/// that nothing outside of the directory is ever read, written or removed.
struct CacheDirectory: Sendable {
    let path: String
    let root: OwnedDescriptor
    let token: MountToken

    /// - Parameter token: instead of the kernel's; for tests.
    init(_ path: String, token: MountToken? = nil) throws(MCFSError) {
        self.path = path
        do throws(Errno) {
            root = try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY)
            self.token = token ?? MountToken(of: root)
            // Nothing is made: there may be no room until something was removed.
            for area in ["blobs", "fresh", "partial", "unproven", "tmp"] { try Self.clear(area, in: root) }
            try Self.clear("fresh/\(self.token.text)", in: root)
            for area in ["blobs", "partial"] {
                var names: [String] = []
                forEachName(in: area) { names.append("\(area)/\($0)") }
                for name in names { try Self.clear(name, in: root) }
            }
        } catch {
            throw MCFSError(localIO: "use the cache directory \(path)", error)
        }
    }

    /// Takes away what stands in the place of a folder and is none.
    private static func clear(_ name: String, in root: OwnedDescriptor) throws(Errno) {
        var status = stat()
        guard fstatat(root.rawValue, name, &status, AT_SYMLINK_NOFOLLOW) == 0, status.st_mode & S_IFMT != S_IFDIR
        else { return }
        if unlinkat(root.rawValue, name, 0) != 0 { throw Errno.current }
    }

    // MARK: Names

    static let shards = (0..<256).map { [UInt8($0)].hex }

    private static func shard(_ id: BlobID) -> String { [id.bytes[0]].hex }

    static func blobFolder(_ id: BlobID) -> String { "blobs/\(shard(id))" }
    static func blob(_ id: BlobID) -> String { "\(blobFolder(id))/\(id)" }
    static func partial(_ key: ContentKey) -> String { "partial/\(shard(key.id))/\(key.id).\(key.size)" }
    static func map(_ key: ContentKey) -> String { partial(key) + ".map" }
    static func unproven(_ id: BlobID) -> String { "unproven/\(id)" }
    func fresh(_ id: BlobID) -> String { "fresh/\(token.text)/\(id)" }

    // MARK: Files

    func open(_ name: String, _ flags: CInt) throws(Errno) -> OwnedDescriptor {
        try OwnedDescriptor.open(name, at: root, flags | O_NOFOLLOW | O_NONBLOCK)
    }

    /// Opens a plain file of ours. What is none is removed.
    ///
    /// - Returns: nil where there is none.
    func openOurs(_ name: String, _ flags: CInt) throws(Errno) -> (file: OwnedDescriptor, size: UInt64)? {
        let file: OwnedDescriptor
        do throws(Errno) { file = try open(name, flags) } catch {
            if error == .noEntry { return nil }
            // A link, a socket, a folder.
            guard [ELOOP, ENXIO, EISDIR].contains(error.rawValue) else { throw error }
            remove(name)
            return nil
        }
        let status = try file.status()
        guard Self.isOurs(status) else {
            remove(name)
            return nil
        }
        return (file, UInt64(status.st_size))
    }

    /// Whether it is a plain file of this user.
    static func isOurs(_ status: stat) -> Bool {
        status.st_mode & S_IFMT == S_IFREG && status.st_uid == geteuid() && status.st_size >= 0
    }

    /// Makes a file that must not be there.
    func create(_ name: String) throws(Errno) -> OwnedDescriptor {
        try makingFolder(of: name) { () throws(Errno) in try open(name, O_RDWR | O_CREAT | O_EXCL) }
    }

    func rename(_ from: String, _ to: String) throws(Errno) {
        _ = try makingFolder(of: to) { () throws(Errno) in
            try retryingOnInterrupt { renameat(root.rawValue, from, root.rawValue, to) }
        }
    }

    /// Folders are made when something gets into them first.
    private func makingFolder<Result>(of name: String, _ body: () throws(Errno) -> Result) throws(Errno) -> Result {
        do throws(Errno) { return try body() } catch {
            guard error == .noEntry, let slash = name.lastIndex(of: "/") else { throw error }
            try makeFolder(String(name[..<slash]))
            return try body()
        }
    }

    private func makeFolder(_ name: String) throws(Errno) {
        try Self.clear(name, in: root)
        try makingFolder(of: name) { () throws(Errno) in
            do throws(Errno) { _ = try retryingOnInterrupt { mkdirat(root.rawValue, name, 0o700) } } catch {
                // Another thread was faster.
                if error != .exists { throw error }
            }
        }
    }

    /// Missing files are fine.
    func remove(_ name: String) { _ = unlinkat(root.rawValue, name, 0) }

    func status(_ name: String) -> stat? {
        var status = stat()
        return fstatat(root.rawValue, name, &status, AT_SYMLINK_NOFOLLOW) == 0 ? status : nil
    }

    /// Makes names in a folder last over a power cut.
    func syncFolder(_ name: String) throws(Errno) {
        let folder = try OwnedDescriptor.open(name, at: root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        _ = try retryingOnInterrupt { fsync(folder.rawValue) }
    }

    /// Calls `body` with the name of everything in a folder.
    func forEachName(in folder: String, _ body: (String) -> Void) {
        // A description of its own, closed on exec, that fdopendir takes over. The areas are folders since the start; what is in them
        // may be a link. What is not seen would not be counted: a disk that fails once is asked again.
        let open = { mcfs_openat(root.rawValue, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0) }
        var descriptor = open()
        if descriptor < 0, errno != ENOENT { descriptor = open() }
        guard descriptor >= 0 else { return }
        guard let stream = fdopendir(descriptor) else {
            close(descriptor)
            return
        }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != "." && name != ".." { body(name) }
        }
    }

    /// Calls `body` with every file of a folder: its name in it and its status.
    func forEachFile(in folder: String, _ body: (String, stat) -> Void) {
        forEachName(in: folder) { name in
            if let status = status("\(folder)/\(name)") { body(name, status) }
        }
    }

    /// Marks a content as used now, for the order of eviction after a crash.
    func touch(_ descriptor: OwnedDescriptor) {
        let times = [timespec(tv_sec: 0, tv_nsec: mcfs_utime_now), timespec(tv_sec: 0, tv_nsec: mcfs_utime_omit)]
        _ = futimens(descriptor.rawValue, times)
    }
}
