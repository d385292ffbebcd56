package import Catalog
package import ChunkStore
package import MCFSCore
internal import ModelFormats
internal import Synchronization

/// What a mount presents, as a plain type: no FUSE in it. Read-only and immutable but for the files that are open.
///
/// Thread safe. No call waits for the network. Every call takes node numbers as the kernel sends them; a number that
/// stands for nothing throws `notFound`.
package final class MountFS: Sendable {
    /// Answer to a read.
    package enum ReadAnswer: ~Copyable, Sendable {
        /// The offset is at or behind the end of the file.
        case end
        case region(FileRegion)
        /// The waiter is completed later, from another thread.
        case pending
    }

    /// Totals as `statfs(2)` shows them.
    package struct Usage: Sendable {
        /// Bytes of all files; hard links count once.
        package var bytes: UInt64
        package var entries: UInt64
    }

    package let tree: Tree
    /// Where the whole mount comes from, for `user.mcfs.origin` of what has no bytes of its own; may be empty.
    package let origin: String
    package let usage: Usage
    let sources: [any ByteSource]
    let store: any ContentStore

    private let layouts: Mutex<[Int: any SourceLayout]> = Mutex([:])
    private let openFiles = OpenFiles()
    private let counters = ReadCounters()

    /// `sources[i]` serves `tree.sources[i]`.
    package convenience init(tree: Tree, sources: [any ByteSource], cache: ChunkCache, origin: String = "") {
        self.init(tree: tree, sources: sources, store: cache, origin: origin)
    }

    package init(tree: Tree, sources: [any ByteSource], store: any ContentStore, origin: String = "") {
        self.tree = tree
        self.sources = sources
        self.store = store
        self.origin = origin
        var bytes: UInt64 = 0
        for entry in 0..<Tree.Index(tree.count) where tree.inode(of: entry) == entry {
            let attributes = tree.attributes(of: entry)
            if attributes.kind == .file { bytes = bytes.addingClamped(attributes.size) }
        }
        usage = Usage(bytes: bytes, entries: UInt64(tree.count))
    }

    /// nil where the directory has no such name.
    package func lookup(_ name: UnsafeRawBufferPointer, in directory: Node) throws(MCFSError) -> NodeAttributes? {
        guard let entry = tree.lookup(name, in: try entry(of: directory)) else { return nil }
        return attributes(ofEntry: entry)
    }

    package func attributes(of node: Node) throws(MCFSError) -> NodeAttributes {
        attributes(ofEntry: try entry(of: node))
    }

    /// - Throws: `usage` for what is no symbolic link.
    package func readLink(_ node: Node) throws(MCFSError) -> [UInt8] {
        let entry = try entry(of: node)
        guard tree.attributes(of: entry).kind == .symlink else {
            throw MCFSError(.usage, "cannot read the link '\(tree.path(of: entry))': it is no symbolic link")
        }
        return tree.target(of: entry)
    }

    /// Counts one more open of a file; each is taken back by one `release`.
    /// - Returns: the file; nil for what has no bytes.
    @discardableResult
    package func open(_ node: Node) throws(MCFSError) -> (any ContentReading)? {
        let entry = try entry(of: node)
        guard let content = content(of: entry) else { return nil }
        return try openFiles.open(entry) { () throws(MCFSError) in try openFile(entry, content) }
    }

    package func release(_ node: Node) {
        guard let entry = node.entry(count: tree.count) else { return }
        openFiles.release(entry)
    }

    /// Reads at most `count` bytes at `offset`: less only at the end of the file.
    ///
    /// `makeWaiter` is called on a miss only. Whoever answers a read that was pending reports it by `readSucceeded` or
    /// `readFailed`; what is answered or thrown here is counted here.
    package func read(
        _ node: Node, offset: UInt64, count: Int, makeWaiter: () -> any ReadWaiter
    ) throws(MCFSError) -> ReadAnswer {
        counters.began()
        do throws(MCFSError) {
            let entry = try entry(of: node)
            guard let content = content(of: entry), count > 0, offset < content.size else {
                counters.hit()
                return .end
            }
            let range = ByteRange(offset, offset + min(UInt64(count), content.size - offset))
            let file = try openFiles.file(entry) { () throws(MCFSError) in try openFile(entry, content) }
            switch try file.read(range, makeWaiter: makeWaiter) {
            case .region(let region):
                counters.hit()
                counters.answered(region.count)
                return .region(region)
            case .pending:
                counters.missed()
                return .pending
            }
        } catch {
            counters.failed()
            throw error
        }
    }

    package func readSucceeded(bytes: Int) { counters.answered(bytes) }
    package func readFailed() { counters.failed() }
    package var reads: ReadStatistics { counters.snapshot }

    /// Files that are open now.
    package var openFileCount: Int { openFiles.count }

    func entry(of node: Node) throws(MCFSError) -> Tree.Index {
        guard let entry = node.entry(count: tree.count) else {
            throw MCFSError(.notFound, "there is no node \(node.number) in this mount")
        }
        return entry
    }

    func attributes(ofEntry entry: Tree.Index) -> NodeAttributes {
        let attributes = tree.attributes(of: entry)
        return NodeAttributes(
            node: Node(entry: tree.inode(of: entry)), kind: NodeAttributes.Kind(attributes.kind),
            permissions: attributes.permissions,
            linkCount: attributes.linkCount, uid: attributes.uid, gid: attributes.gid, size: attributes.size,
            device: attributes.device, modified: attributes.modified)
    }

    /// nil for what has no bytes.
    func content(of entry: Tree.Index) -> Content? {
        guard tree.attributes(of: entry).kind == .file else { return nil }
        return tree.content(of: entry)
    }

    /// Opens a file for reading, with what is known of its format.
    private func openFile(_ entry: Tree.Index, _ content: Content) throws(MCFSError) -> any ContentReading {
        let file = try openContent(content)
        guard file.completeFile == nil, let format = tree.withName(of: entry, { ModelFormat(fileName: $0) }) else {
            return file
        }
        return ModelFile(file, format, size: content.size) { [weak self] in self?.openShard(after: entry) }
    }

    /// The file that follows a numbered one in its folder.
    private func openShard(after entry: Tree.Index) -> (file: any ContentReading, size: UInt64)? {
        guard let name = tree.withName(of: entry, { ShardName($0) })?.next,
            let next = name.withUnsafeBytes({ tree.lookup($0, in: tree.parent(of: entry)) }),
            let content = content(of: next), content.size > 0, let file = try? openContent(content)
        else { return nil }
        return (file, content.size)
    }

    private func openContent(_ content: Content) throws(MCFSError) -> any ContentReading {
        guard sources.indices.contains(content.source) else {
            throw MCFSError(
                .corrupt, "cannot open \(content.id): its tree names source \(content.source) of \(sources.count)")
        }
        return try store.openContent(
            FileContent(
                id: content.id, size: content.size, source: sources[content.source], offset: content.offset,
                layout: layout(ofSource: content.source)))
    }

    private func layout(ofSource source: Int) -> any SourceLayout {
        if let layout = layouts.withLock({ $0[source] }) { return layout }
        // Made outside of the lock: it may walk the tree. Two threads may both make one; they are equal.
        let layout = tree.layout(ofSource: source)
        return layouts.withLock { layouts in
            if let other = layouts[source] { return other }
            layouts[source] = layout
            return layout
        }
    }
}

extension UInt64 {
    /// Sizes come from manifests: a sum that overflows must not end the process.
    func addingClamped(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
