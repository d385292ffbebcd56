internal import Catalog
internal import ChunkStore
internal import MCFSCore
internal import ModelFormats
internal import Synchronization
internal import Upper

/// The tree of a mount and its bytes, as they show where nothing was written over them. Immutable but for what is
/// remembered of files whose owner, mode, times or attributes were changed.
///
/// Thread safe. No call waits for the network.
final class LowerTree: Sendable {
    let tree: Tree
    /// Where the whole mount comes from, for `user.mcfs.origin` of what has no bytes of its own; may be empty.
    let origin: String
    let sources: TreeSources
    let store: any ContentStore
    let usage: MountFS.Usage
    let view: TreeView
    /// Who owns all entries, instead of whom the tree names.
    private let owner: (uid: UInt32, gid: UInt32)?

    private let uses = RecentUses()
    private let metadata: Lock<[Tree.Index: LowerMetadata]> = Lock([:])
    private let hasMetadata = Atomic<Bool>(false)
    private let generations: Lock<[Tree.Index: UInt64]> = Lock([:])
    private let hasGenerations = Atomic<Bool>(false)

    init(
        tree: Tree, sources: TreeSources, store: any ContentStore, origin: String,
        owner: (uid: UInt32, gid: UInt32)?, view: TreeView
    ) {
        self.tree = tree
        self.view = view
        self.sources = sources
        self.store = store
        self.origin = origin
        self.owner = owner
        var bytes: UInt64 = 0
        for entry in 0..<Tree.Index(tree.count) where tree.inode(of: entry) == entry {
            let attributes = tree.attributes(of: entry)
            if attributes.kind == .file { bytes.addClamped(attributes.size) }
        }
        usage = MountFS.Usage(bytes: bytes, entries: UInt64(tree.count))
    }

    /// What shows at a name of a directory of the tree.
    func lookup(_ name: UnsafeRawBufferPointer, in directory: Tree.Index) -> Tree.Index? {
        tree.lookup(name, in: directory).flatMap { view.hides($0) ? nil : $0 }
    }

    func attributes(of entry: Tree.Index) -> NodeAttributes {
        var attributes = tree.attributes(of: entry)
        attributes.size = view.rewriting?.sizes[entry] ?? attributes.size
        let node = Node(entry: tree.inode(of: entry))
        var result = NodeAttributes(
            node: node, inode: node.number, kind: NodeAttributes.Kind(attributes.kind),
            permissions: attributes.permissions,
            linkCount: attributes.linkCount, uid: owner?.uid ?? attributes.uid, gid: owner?.gid ?? attributes.gid,
            size: attributes.size, blocks: attributes.size / 512 + (attributes.size % 512 == 0 ? 0 : 1),
            device: attributes.device, accessed: attributes.modified, modified: attributes.modified,
            changed: attributes.modified)
        result.generation = generation(of: entry)
        if let metadata = metadata(of: entry) {
            result.permissions = metadata.permissions ?? result.permissions
            result.linkCount = metadata.linkCount ?? result.linkCount
            result.uid = metadata.uid ?? result.uid
            result.gid = metadata.gid ?? result.gid
            result.accessed = metadata.accessed ?? result.accessed
            result.modified = metadata.modified ?? result.modified
            result.changed = metadata.changed ?? result.changed
        }
        return result
    }

    /// How often an entry has come back after it was removed.
    func generation(of entry: Tree.Index) -> UInt64 {
        guard hasGenerations.load(ordering: .acquiring) else { return 0 }
        return generations.withLock { $0[entry] ?? 0 }
    }

    /// A directory that was removed is there again. The kernel makes nothing in one that it saw removed, and may still have it:
    /// what it looks up from now on is another one.
    func renew(_ directory: Tree.Index) {
        generations.withLock { $0[directory, default: 0] += 1 }
        hasGenerations.store(true, ordering: .releasing)
    }

    // MARK: What was changed of files below

    /// The same for all names of a file. nil where nothing was changed.
    func metadata(of entry: Tree.Index) -> LowerMetadata? {
        guard hasMetadata.load(ordering: .acquiring) else { return nil }
        return metadata.withLock { $0[tree.inode(of: entry)] }
    }

    /// The entries that stand for files, and directories, of which something was changed.
    var changedEntries: [Tree.Index] { metadata.withLock { Array($0.keys) } }

    /// Whether an entry has lost all its names and lives on for those who have it open.
    func isNameless(_ entry: Tree.Index) -> Bool { metadata(of: entry)?.linkCount == 0 }

    func setMetadata(_ value: LowerMetadata?, of entry: Tree.Index) {
        metadata.withLock { $0[tree.inode(of: entry)] = value }
        hasMetadata.store(true, ordering: .releasing)
    }

    // MARK: Bytes

    /// nil for what has no bytes.
    func content(of entry: Tree.Index) -> Content? {
        tree.content(of: entry)
    }

    /// What a file that the kernel opens is read from, or later will be.
    func opened(_ entry: Tree.Index, _ content: Content) throws(MCFSError) -> OpenContent {
        guard content.size < MountFS.smallBytes else { return .lower(try open(entry, content)) }
        try check(content)
        if uses.isNew(entry) { store.noteUse(of: content.id, size: content.size) }
        return .unread
    }

    /// Opens a file for reading, with what is known of its format.
    func open(_ entry: Tree.Index, _ content: Content) throws(MCFSError) -> any ContentReading {
        let file = try open(content)
        if let rewriting = view.rewriting, rewriting.sizes[entry] != nil {
            return RewrittenFile(file, storedSize: content.size) { rewriting.rewrite(entry, $0) }
        }
        guard file.completeFile == nil, let format = tree.withName(of: entry, { ModelFormat(fileName: $0) }) else {
            return file
        }
        return ModelFile(file, format, size: content.size) { [weak self] in self?.openShard(after: entry) }
    }

    /// The file that follows a numbered one in its folder.
    private func openShard(after entry: Tree.Index) -> (file: any ContentReading, size: UInt64)? {
        guard let name = tree.withName(of: entry, { ShardName($0) })?.next,
            let next = name.withUnsafeBytes({ tree.lookup($0, in: tree.parent(of: entry)) }),
            let content = content(of: next), content.size > 0, let file = try? open(content)
        else { return nil }
        return (file, content.size)
    }

    /// No bytes under the digest of some: which of them is wrong cannot be told, and no read of it will come that would find out.
    private func check(_ content: Content) throws(MCFSError) {
        guard !content.id.fits(size: content.size) else { return }
        throw MCFSError(
            .corrupt,
            "\(content.id) has \(content.size) bytes, says its origin, which is not what it is; the origin's list is wrong"
        )
    }

    private func open(_ content: Content) throws(MCFSError) -> any ContentReading {
        try check(content)
        return try store.openContent(try sources.content(content))
    }
}
