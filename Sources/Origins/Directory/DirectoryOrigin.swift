package import Catalog
internal import Glibc
package import Logging
package import MCFSCore
internal import Synchronization
package import Transport

/// A local folder, or one local file.
///
/// A folder has no versions: its version is what a walk finds (names, sizes, times, devices, inodes). A file that is changed later
/// fails with `changed`; what is already cached stays as it was.
package final class DirectoryOrigin: Origin {
    package let reference: String
    private let root: FolderRoot
    private let logger: Logger
    /// The last walk, until `tree` takes it.
    private let walked = Lock<FolderWalk?>(nil)

    private static let scheme = "file:"

    /// - Throws: `usage` for a malformed reference.
    package init(_ reference: String, environment: Environment, http: HTTPClient, logger: Logger) throws(MCFSError) {
        self.reference = reference
        self.logger = logger
        var path = reference.hasPrefix(Self.scheme) ? String(reference.dropFirst(Self.scheme.count)) : reference
        guard path.hasPrefix("/"), !path.utf8.contains(0) else {
            throw MCFSError(.usage, "'\(reference)' is no absolute folder; write file:/DIR")
        }
        while path.utf8.count > 1, path.hasSuffix("/") { path.removeLast() }
        root = FolderRoot(path)
    }

    package func resolve(deadline: Deadline) throws(MCFSError) -> Catalog.Resolution {
        let walk = try FolderWalk(root, deadline: deadline)
        walked.withLock { $0 = walk }
        return Catalog.Resolution(
            reference: reference, resolved: Self.scheme + root.path, treeKey: Self.key(of: walk))
    }

    package func tree(of resolution: Catalog.Resolution, loading: TreeLoading) throws(MCFSError) -> Tree {
        let kept = walked.withLock { walk in
            defer { walk = nil }
            return walk
        }
        if let kept, Self.key(of: kept) == resolution.treeKey { return try build(kept) }
        let walk = try FolderWalk(root, deadline: loading.deadline)
        guard Self.key(of: walk) == resolution.treeKey else {
            throw MCFSError(.changed, "the folder \(root.path) has changed since it was resolved; mount it again")
        }
        return try build(walk)
    }

    package func forgetListing() { walked.withLock { $0 = nil } }

    package func source(
        _ descriptor: SourceDescriptor, of resolution: Catalog.Resolution
    ) throws(MCFSError) -> any ByteSource {
        LocalFileSource(try LocalFileSource.Version(descriptor), in: root)
    }

    private static func key(of walk: FolderWalk) -> String { "dir-\(walk.version)" }

    private func build(_ walk: FolderWalk) throws(MCFSError) -> Tree {
        var builder = TreeBuilder()
        var names: [HardLink: TreePath] = [:]
        var skipped = 0
        for item in walk.items {
            guard let kind = kind(of: item, names: &names, builder: &builder) else {
                skipped += 1
                continue
            }
            let status = item.status
            try builder.add(
                TreeEntry(
                    item.path, kind, permissions: UInt16(status.mode & 0o7777), uid: status.uid, gid: status.gid,
                    modified: status.modified))
        }
        if skipped > 0 {
            logger.info("sockets are not presented", metadata: ["folder": "\(root.path)", "count": "\(skipped)"])
        }
        return try builder.build()
    }

    private struct HardLink: Hashable {
        var fileSystem: UInt64
        var inode: UInt64
    }

    /// nil for what has no place in a tree: sockets.
    private func kind(
        of item: FolderWalk.Item, names: inout [HardLink: TreePath], builder: inout TreeBuilder
    ) -> TreeEntry.Kind? {
        let status = item.status
        switch status.type {
        case S_IFDIR: return .directory
        case S_IFLNK: return .symlink(target: item.target)
        case S_IFIFO: return .fifo
        case S_IFCHR: return .characterDevice(major: status.deviceMajor, minor: status.deviceMinor)
        case S_IFBLK: return .blockDevice(major: status.deviceMajor, minor: status.deviceMinor)
        case S_IFREG:
            if status.linkCount > 1 {
                let link = HardLink(fileSystem: status.fileSystem, inode: status.inode)
                if let first = names[link] { return .hardLink(first) }
                names[link] = item.path
            }
            let version = LocalFileSource.Version(item.path, item.status)
            let source = builder.addSource(version.descriptor())
            return .file(
                Content(id: version.identity(below: root.path), size: version.size, source: source, offset: 0))
        default: return nil
        }
    }
}
