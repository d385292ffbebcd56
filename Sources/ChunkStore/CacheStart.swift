internal import CLinux
import Glibc
import MCFSCore

/// What a start does with what earlier ones left: puts in doubt what may not have reached the disk, and finds out what is there.
///
/// The rule: a file in `blobs` was checked and synced, and is believed. Whatever is younger names the mount of the file system
/// that it was written under; under the same one it is believed, since the page cache has it. After another, only chunks that
/// were synced are, and a whole file is hashed before its first use, or removed where it has no digest.
struct CacheStart: Sendable {
    private let directory: CacheDirectory
    private let space: Space
    private let dirty: DirtyContents

    /// Whole contents that are not in `blobs` yet.
    private let young: [File]
    /// Those that must be hashed first.
    let unproven: Set<BlobID>

    struct File {
        var key: ContentKey
        /// Bytes.
        var local: UInt64
        var onDisk: UInt64
        /// Seconds since 1970.
        var used: Int64
    }

    /// Before anything is read or written.
    init(_ directory: CacheDirectory, _ space: Space, _ dirty: DirtyContents) {
        self.directory = directory
        self.space = space
        self.dirty = dirty
        directory.forEachName(in: "tmp") { directory.remove("tmp/\($0)") }
        Self.adoptFirstFormat(directory)
        Self.putInDoubt(directory)
        let fresh = Self.whole(in: "fresh/\(directory.token.text)", of: directory)
        let doubtful = Self.whole(in: "unproven", of: directory)
        // A daemon that was killed did not come to syncing them.
        for file in fresh { dirty.add(file.key) }
        young = fresh + doubtful
        unproven = Set(doubtful.map(\.key.id))
    }

    /// What another mount left and did not sync.
    private static func putInDoubt(_ directory: CacheDirectory) {
        directory.forEachName(in: "fresh") { token in
            if token == directory.token.text { return }
            let folder = "fresh/\(token)"
            directory.forEachName(in: folder) { putInDoubt($0, in: folder, of: directory) }
            _ = unlinkat(directory.root.rawValue, folder, AT_REMOVEDIR)
            // No folder.
            directory.remove(folder)
        }
    }

    private static func putInDoubt(_ name: String, in folder: String, of directory: CacheDirectory) {
        if let id = BlobID(name), id.kind != .origin,
            (try? directory.rename("\(folder)/\(name)", CacheDirectory.unproven(id))) != nil
        {
            return
        }
        directory.remove("\(folder)/\(name)")
    }

    /// The first format kept a boot and a time in `state`: under another boot, what was modified later may not be on the disk.
    private static func adoptFirstFormat(_ directory: CacheDirectory) {
        guard let file = try? directory.open("state", O_RDONLY) else { return }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = bytes.withUnsafeMutableBytes { (try? file.read(into: $0, at: 0)) ?? 0 }
        let fields = String(decoding: bytes.prefix(count), as: UTF8.self).split(separator: "\n")
        let isThisBoot = fields.first.map { $0 == MountToken.boot() ?? "" } ?? false
        if !isThisBoot || mcfs_syncfs(directory.root.rawValue) != 0 {
            let synced = fields.count == 2 ? Int64(fields[1]) ?? 0 : 0
            for shard in CacheDirectory.shards {
                let folder = "blobs/\(shard)"
                directory.forEachFile(in: folder) { name, status in
                    if Int64(status.st_mtim.tv_sec) >= synced { putInDoubt(name, in: folder, of: directory) }
                }
            }
        }
        directory.remove("state")
    }

    private static func whole(in folder: String, of directory: CacheDirectory) -> [File] {
        var files: [File] = []
        directory.forEachFile(in: folder) { name, status in
            guard CacheDirectory.isOurs(status), let id = BlobID(name) else {
                return directory.remove("\(folder)/\(name)")
            }
            let size = UInt64(status.st_size)
            files.append(
                File(
                    key: ContentKey(id, size: size), local: size, onDisk: Space.diskBytes(size),
                    used: Int64(status.st_atim.tv_sec)))
        }
        return files
    }

    // MARK: While the cache works already

    /// Finds out what is there.
    ///
    /// - Parameter clear: takes away files of a partial content that are no good: only its own writer may, which could have begun
    ///   to write it.
    func scan(clear: (ContentKey) -> Void) {
        var found = young
        // A partial file beside a whole one is what a kill between two calls left.
        let fresh = Set(young.map(\.key))
        for shard in CacheDirectory.shards {
            let whole = Self.whole(in: "blobs/\(shard)", of: directory)
            found += partial(in: "partial/\(shard)", besides: fresh.union(whole.map(\.key)), clear)
            found += whole
        }
        space.scanned(found)
    }

    private func partial(
        in folder: String, besides whole: Set<ContentKey>, _ clear: (ContentKey) -> Void
    ) -> [File] {
        var found: [File] = []
        var keys: Set<ContentKey> = []
        directory.forEachName(in: folder) { name in
            guard let key = Self.key(name.hasSuffix(".map") ? String(name.dropLast(4)) : name) else {
                return directory.remove("\(folder)/\(name)")
            }
            keys.insert(key)
        }
        for key in keys {
            let map: MapFile.Found?
            // What cannot be looked at now is left alone: it is there when it is opened.
            do throws(Errno) { map = try MapFile.open(key, in: directory) } catch { continue }
            if !whole.contains(key), let map, let status = try? map.content.status() {
                if !map.isSynced { dirty.add(key) }
                let blocks = status.st_blocks + (directory.status(CacheDirectory.map(key))?.st_blocks ?? 0)
                found.append(
                    File(
                        key: key, local: map.grid.byteCount(of: map.present), onDisk: UInt64(blocks) * 512,
                        used: Int64(status.st_atim.tv_sec)))
            } else {
                clear(key)
            }
        }
        return found
    }

    /// The content that a partial file is of.
    private static func key(_ name: String) -> ContentKey? {
        let parts = name.split(separator: ".")
        guard parts.count == 2, let id = BlobID(parts[0]), let size = UInt64(parts[1]), String(size) == parts[1] else {
            return nil
        }
        return ContentKey(id, size: size)
    }
}
