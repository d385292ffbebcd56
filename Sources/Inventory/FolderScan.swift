internal import Catalog
internal import Glibc
internal import MCFSCore

/// The entries below a local folder as a tree, by their names and metadata: nothing is read. Never follows a symbolic link.
///
/// In the tree the folder stands at its own absolute path: caches are told by the names of the folders that they are in,
/// and these may lie above it.
struct FolderScan {
    /// What an earlier scan saw of a directory. One that is still so is passed over: it is in `kept` and not in the tree.
    struct Known {
        /// The file in it whose content is known.
        var file: [UInt8]
        /// Of the directory, then of the file.
        var stamps: [UInt8]
    }

    /// Of the folder itself.
    let folder: Folder
    let tree: Tree
    /// Absolute paths.
    let kept: [[UInt8]]
    /// Absolute paths, and why they could not be listed. What is below them is not in the tree.
    let unreadable: [(path: [UInt8], error: Errno)]
    /// Absolute paths of what an interrupted prune left.
    let leftovers: [[UInt8]]
    /// Of each directory in the tree, by its absolute path.
    let stamps: [[UInt8]: Folder.Stamp]

    /// More is no cache; this many take half a GiB of memory.
    static let entriesMax = 2_000_000
    static let depthMax = 64

    /// - Parameter path: absolute, without a `/` at its end.
    /// - Throws: `notFound` where there is no folder, `unauthorized` or `localIO` where it cannot be listed,
    ///   `unsupported` for one with too many entries.
    init(_ path: String, known: [[UInt8]: Known] = [:]) throws(MCFSError) {
        let opened: (folder: Folder, status: stat, items: [Folder.Item])
        do throws(Errno) {
            let folder = try Folder(at: path)
            opened = (folder, try folder.status(), try folder.items())
        } catch {
            throw Self.unreachable(path, error)
        }
        var walk = Walk(path, known: known)
        try walk.add(
            opened.items, of: opened.folder, at: try TreePath(path), named: path == "/" ? [] : Array(path.utf8),
            opened.status)
        folder = opened.folder
        (kept, unreadable, leftovers, stamps) = (walk.kept, walk.unreadable, walk.leftovers, walk.stamps)
        tree = try walk.builder.build()
    }

    static func unreachable(_ path: String, _ error: Errno) -> MCFSError {
        switch error.rawValue {
        case ENOENT, ENOTDIR: MCFSError(.notFound, "there is no folder \(path); check the path", cause: error)
        case EACCES, EPERM:
            MCFSError(.unauthorized, "cannot list the folder \(path): \(error); check its permissions", cause: error)
        default: MCFSError(localIO: "list the folder \(path)", error)
        }
    }
}

private struct Walk {
    private let top: String
    private let known: [[UInt8]: FolderScan.Known]
    private let source: Int
    var builder = TreeBuilder()
    var kept: [[UInt8]] = []
    var unreadable: [(path: [UInt8], error: Errno)] = []
    var leftovers: [[UInt8]] = []
    var stamps: [[UInt8]: Folder.Stamp] = [:]
    private var count = 0

    /// Only names, kinds and sizes of the tree are used: the content of every file is the same unknown.
    private static let content = BlobID(origin: "folder")

    init(_ top: String, known: [[UInt8]: FolderScan.Known]) {
        self.top = top
        self.known = known
        source = builder.addSource(SourceDescriptor([:]))
    }

    /// - Parameter path: the folder's, as bytes with `/` before each name.
    mutating func add(
        _ items: [Folder.Item], of folder: Folder, at place: TreePath, named path: [UInt8], _ status: stat
    ) throws(MCFSError) {
        try add(place, .directory, status)
        stamps[path] = Folder.Stamp(status)
        count += items.count
        guard count <= FolderScan.entriesMax else {
            throw MCFSError(
                .unsupported,
                "\(top) holds more than \(FolderScan.entriesMax) entries; name the folder of the cache in it")
        }
        for item in items {
            if item.name.starts(with: Folder.ownPrefix.utf8) {
                if Place.isPruned(item.name) {
                    leftovers.append(path + [UInt8(ascii: "/")] + item.name)
                }
                continue
            }
            var place = place
            place.components.append(item.name)
            if item.isFile {
                let content = Content(id: Self.content, size: item.stamp.size, source: source, offset: 0)
                try add(place, .file(content), item.status)
            } else if item.isLink {
                try add(place, .symlink(target: []), item.status)
            } else if item.isFolder {
                try descend(item, of: folder, at: place, named: path + [UInt8(ascii: "/")] + item.name)
            }
        }
    }

    private mutating func descend(
        _ item: Folder.Item, of parent: Folder, at place: TreePath, named path: [UInt8]
    ) throws(MCFSError) {
        if let known = known[path], Self.isSame(item, known, in: parent) {
            kept.append(path)
            return
        }
        let opened: (folder: Folder, items: [Folder.Item])
        do throws(Errno) {
            if place.components.count > FolderScan.depthMax { throw Errno(rawValue: ELOOP) }
            let folder = try parent.folder(item.name)
            opened = (folder, try folder.items())
        } catch {
            if error != .noEntry { unreadable.append((path, error)) }
            return
        }
        try add(opened.items, of: opened.folder, at: place, named: path, item.status)
    }

    private static func isSame(_ item: Folder.Item, _ known: FolderScan.Known, in parent: Folder) -> Bool {
        guard known.stamps.starts(with: item.stamp.bytes),
            let file = try? parent.status(of: item.name + [UInt8(ascii: "/")] + known.file)
        else { return false }
        return known.stamps.dropFirst(item.stamp.bytes.count).elementsEqual(Folder.Stamp(file).bytes)
    }

    private mutating func add(_ place: TreePath, _ kind: TreeEntry.Kind, _ status: stat) throws(MCFSError) {
        try builder.add(
            TreeEntry(
                place, kind, permissions: UInt16(truncatingIfNeeded: status.st_mode),
                modified: Timestamp(seconds: Int64(status.st_mtim.tv_sec))))
    }
}
