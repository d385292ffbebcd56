internal import Crypto
internal import Glibc
internal import MCFSCore

/// What a local folder holds at one moment.
struct FolderWalk: Sendable {
    struct Item: Sendable {
        var path: TreePath
        var status: FileStatus
        /// Of a symlink.
        var target: [UInt8] = []
    }

    /// Parents before children, siblings by name as bytes. The folder itself is not among them.
    private(set) var items: [Item] = []
    /// Hex SHA-256 over paths, types, sizes, times, file systems, inodes, owners, modes and link targets.
    private(set) var version = ""

    /// Walks everything below `root`, across file systems, never through a symlink. What vanishes on the way was not there.
    /// - Throws: `unauthorized` or `localIO` for a folder that cannot be listed: part of a tree is not presented as the whole.
    init(_ root: FolderRoot, deadline: Deadline) throws(MCFSError) {
        if let file = try root.singleFile() {
            items = [Item(path: file.path, status: file.status)]
        } else {
            var pending = [TreePath.root]
            let budget = MetadataBudget()
            while let folder = pending.popLast() {
                if deadline.hasPassed {
                    throw MCFSError(
                        .timedOut, "cannot list \(root.path) in time; mount a smaller folder or allow more time")
                }
                let children = try Self.children(of: folder, in: root, budget)
                items += children
                pending += children.reversed().lazy.filter { $0.status.type == S_IFDIR }.map(\.path)
            }
        }
        version = Self.version(of: items)
    }

    private static func children(
        of folder: TreePath, in root: FolderRoot, _ budget: MetadataBudget
    ) throws(MCFSError) -> [Item] {
        let names: [[UInt8]]
        do throws(Errno) { names = try root.names(in: folder) } catch {
            if error == .noEntry, !folder.isRoot { return [] }
            let code: MCFSError.Code = error.rawValue == EACCES || error.rawValue == EPERM ? .unauthorized : .localIO
            throw MCFSError(
                code, "cannot list the folder \(root.path)/\(folder): \(error); check its permissions", cause: error)
        }
        var items: [Item] = []
        for name in names.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
            // Of an upper: what it remembers is no content.
            if folder.isRoot && name == UpperLayout.hiddenName { continue }
            let path = folder.appending(try TreePath(name))
            // An item; each component is an array.
            try budget.take(entries: 1, bytes: 160 + 8 * path.components.count + name.count, of: root.path)
            do throws(Errno) {
                let status = try root.status(of: path)
                var item = Item(path: path, status: status)
                if status.type == S_IFLNK { item.target = try root.target(of: path) }
                items.append(item)
            } catch {
                if error == .noEntry { continue }
                throw MCFSError(localIO: "look at \(root.path)/\(path)", error)
            }
        }
        return items
    }

    private static func version(of items: [Item]) -> String {
        var hash = SHA256()
        for item in items {
            let path = item.path.bytes
            let status = item.status
            let fields: [UInt64] = [
                UInt64(path.count), UInt64(item.target.count), UInt64(status.mode), status.size,
                UInt64(bitPattern: status.modified.seconds), UInt64(status.modified.nanoseconds),
                UInt64(bitPattern: status.changed.seconds), UInt64(status.changed.nanoseconds), status.fileSystem,
                status.inode, UInt64(status.uid), UInt64(status.gid), status.device,
            ]
            hash.update(data: Array(fields.map(String.init).joined(separator: ":").utf8))
            hash.update(data: path)
            hash.update(data: item.target)
        }
        return Array(hash.finalize()).hex
    }
}
