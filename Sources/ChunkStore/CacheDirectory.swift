import Glibc
internal import CLinux
import MCFSCore

/// Where the files of the chunk cache are, below the cache directory (docs/cache-format.md#chunk-cache):
///
///     blobs/AB/ID          a complete, verified content; byte for byte the presented file
///     partial/AB/ID        a content with holes where nothing was fetched; the length is the file's
///     partial/AB/ID.map    which chunks of it are there (`MapFile`)
///     tmp/N                a whole content being written
///     state                which boot wrote last, and what had reached the disk by then (`SyncPoint`)
///
/// AB are the first two hex digits of the identity. A content moves from `partial` to `blobs` by rename, which keeps
/// its inode.
struct CacheDirectory: Sendable {
    enum Area: String, CaseIterable { case blobs, partial, tmp }

    let path: String
    let root: OwnedDescriptor

    init(_ path: String) throws(MCFSError) {
        self.path = path
        do throws(Errno) {
            root = try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY)
            for area in Area.allCases { try Self.makeDirectory(area.rawValue, in: root) }
            for shard in 0..<256 {
                let name = [UInt8(shard)].hex
                try Self.makeDirectory("blobs/\(name)", in: root)
                try Self.makeDirectory("partial/\(name)", in: root)
            }
        } catch {
            throw MCFSError(localIO: "use the cache directory \(path)", error)
        }
    }

    private static func makeDirectory(_ name: String, in root: OwnedDescriptor) throws(Errno) {
        if mkdirat(root.rawValue, name, 0o700) == 0 || errno == EEXIST { return }
        throw Errno.current
    }

    static func complete(_ id: BlobID) -> String { file("blobs", id) }
    static func partial(_ id: BlobID) -> String { file("partial", id) }
    static func map(_ id: BlobID) -> String { file("partial", id) + ".map" }

    private static func file(_ area: String, _ id: BlobID) -> String {
        "\(area)/\([id.bytes[0]].hex)/\(id)"
    }

    func open(_ name: String, _ flags: CInt) throws(Errno) -> OwnedDescriptor {
        try OwnedDescriptor.open(name, at: root, flags)
    }

    /// - Returns: nil where there is no such file.
    func openIfThere(_ name: String, _ flags: CInt) throws(Errno) -> OwnedDescriptor? {
        do { return try open(name, flags) } catch { if error == .noEntry { return nil } else { throw error } }
    }

    func rename(_ from: String, _ to: String) throws(Errno) {
        _ = try retryingOnInterrupt { renameat(root.rawValue, from, root.rawValue, to) }
    }

    /// Missing files are fine.
    func remove(_ name: String) { _ = unlinkat(root.rawValue, name, 0) }

    func status(_ name: String) -> stat? {
        var status = stat()
        return fstatat(root.rawValue, name, &status, AT_SYMLINK_NOFOLLOW) == 0 ? status : nil
    }

    /// Calls `body` with every file of a folder: its name and status.
    func forEachFile(in folder: String, _ body: (String, stat) -> Void) {
        guard let descriptor = try? open(folder, O_RDONLY | O_DIRECTORY) else { return }
        // fdopendir takes the descriptor over: it gets a duplicate.
        guard let stream = fdopendir(dup(descriptor.rawValue)) else { return }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name == "." || name == ".." { continue }
            var status = stat()
            if fstatat(descriptor.rawValue, name, &status, AT_SYMLINK_NOFOLLOW) == 0 { body(name, status) }
        }
    }

    /// Marks a content as used now, for the order of eviction. The modification time stays: `SyncPoint` relies on it.
    func touch(_ descriptor: OwnedDescriptor) {
        let times = [timespec(tv_sec: 0, tv_nsec: Int(UTIME_NOW)), timespec(tv_sec: 0, tv_nsec: Int(UTIME_OMIT))]
        _ = futimens(descriptor.rawValue, times)
    }

    func flushFileSystem() { _ = mcfs_syncfs(root.rawValue) }
}

private let UTIME_NOW = (1 << 30) - 1
private let UTIME_OMIT = (1 << 30) - 2
