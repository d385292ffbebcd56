package import Catalog
package import ChunkStore
package import MCFSCore
package import Upper

/// What a mount presents, as a plain type: no FUSE in it. `files` is what the kernel asks; what is open is read here,
/// whichever kind of files it is of.
///
/// Thread safe. No call waits for the network.
package final class MountFS: Sendable {
    /// Answer to a read.
    package enum ReadAnswer: ~Copyable, Sendable {
        /// The offset is at or behind the end of the file.
        case end
        case region(FileRegion)
        /// At most so many bytes of a file of the upper; fewer where it ends.
        case upper(OwnedDescriptor, offset: UInt64, count: Int)
        /// The waiter is completed later, from another thread.
        case pending
    }

    package struct DirectoryEntry: Sendable {
        /// What `stat` would show; for ".." of the root, the root.
        package let attributes: NodeAttributes
        /// Where the listing goes on behind this entry.
        package let nextPosition: UInt64
        /// Whether it is "." or "..", or has no attributes: a listing with attributes must not count those as looked up.
        package let isDot: Bool
    }

    /// Totals as `statfs(2)` shows them.
    package struct Usage: Sendable {
        /// Bytes of all files; hard links count once.
        package var bytes: UInt64
        package var entries: UInt64
    }

    /// What can be read of a file when it is opened.
    package enum Opened: Sendable {
        case lower(any ContentReading)
        /// Small, and opened when it is read; see `smallBytes`.
        case unread
        case upper(OwnedDescriptor)
        /// It has no bytes.
        case empty
    }

    /// Files of the tree with fewer bytes are opened when they are read, not when the kernel opens them: it has the pages
    /// of most of them, and asks for nothing. Less than a chunk, unless chunks were set smaller: bytes of one that is found
    /// wrong were shown to nobody.
    package static let smallBytes: UInt64 = 256 << 10

    package let files: any MountedFiles
    /// `files` where they can be written to.
    package let overlay: Overlay?
    package var view: TreeView { lower.view }
    let lower: LowerTree
    let openFiles = OpenFiles()
    private let counters = ReadCounters()

    /// - Parameters:
    ///   - origin: where the whole mount comes from; may be empty.
    ///   - view: what of the tree shows; nil: all of it, as it is.
    ///   - owner: who owns all entries of the tree, instead of whom it names: a user who is not root cannot give files away.
    package init(
        tree: Tree, sources: TreeSources, store: any ContentStore, origin: String = "",
        upper: UpperDirectory? = nil, owner: (uid: UInt32, gid: UInt32)? = nil, view: TreeView? = nil
    ) {
        lower = LowerTree(
            tree: tree, sources: sources, store: store, origin: origin, owner: owner, view: view ?? TreeView(tree))
        overlay = upper.map { [lower, openFiles] in Overlay(lower, $0, openFiles) }
        files = overlay ?? TreeFiles(lower, openFiles)
    }

    package var tree: Tree { lower.tree }
    package var usage: Usage { lower.usage }

    /// Tells an open of a file of the upper from those before it; never 0.
    package func newHandle() -> UInt64 { openFiles.newHandle() }

    /// Takes back one open of a file.
    package func release(_ node: Node) { openFiles.release(node.number) }

    /// Bytes of the file that the tree has for a node; 0 where it has none.
    package func storedBytes(of node: Node) -> UInt64 {
        node.entry(count: tree.count).flatMap { tree.content(of: $0)?.size } ?? 0
    }

    /// Whether all bytes of the file that the tree has for a node are in the cache.
    package func isLocal(_ node: Node) -> Bool {
        guard let entry = node.entry(count: tree.count), let content = lower.content(of: entry) else { return true }
        return lower.store.localBytes(of: content.id, size: content.size) >= content.size
    }

    /// Whether pages that the kernel keeps of a node may have bytes of the tree that nobody checked; also where it has been written to
    /// since.
    package func hasUncertainPages(_ node: Node) -> Bool {
        guard let entry = node.entry(count: tree.count), let content = lower.content(of: entry) else { return false }
        return lower.store.hasUncertainPages(of: content.id, size: content.size)
    }

    /// Reads at most `count` bytes at `offset`: less only at the end of the file.
    ///
    /// `handle` is of the open; 0: not known, any. Bytes that were read by an earlier one may have been wrong: that fails. A
    /// node that stands for nothing throws `notFound`.
    ///
    /// `makeWaiter` is called on a miss only. Whoever answers a read that was pending reports it by `readSucceeded` or
    /// `readFailed`; what is answered or thrown here is counted here.
    package func read(
        _ node: Node, handle: UInt64 = 0, offset: UInt64, count: Int, makeWaiter: () -> any ReadWaiter
    ) throws(MCFSError) -> ReadAnswer {
        counters.began()
        do throws(MCFSError) {
            let file: any ContentReading
            switch try content(of: node) {
            case .upper(let descriptor):
                counters.hit()
                return .upper(descriptor, offset: offset, count: count)
            case .lower(let known):
                if handle != 0, handle != known.handle {
                    throw MCFSError(.corrupt, "bytes that were read earlier had a wrong digest; open the file again")
                }
                file = known
            // What was unread is open now.
            case .empty, .unread:
                counters.hit()
                return .end
            }
            let size = lower.attributes(of: try entry(of: node)).size
            guard count > 0, offset < size else {
                counters.hit()
                return .end
            }
            let range = ByteRange(offset, offset + min(UInt64(count), size - offset))
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

    private func content(of node: Node) throws(MCFSError) -> OpenContent {
        switch openFiles.known(node.number) {
        case .unread, nil: break
        case let known?: return known
        }
        // Not read yet, opened by an earlier server, or of an empty file.
        let entry = try entry(of: node)
        guard let content = lower.content(of: entry) else { return .empty }
        // Where descriptors are short, it has one for this read alone.
        return try openFiles.content(node.number, keeps: !DescriptorReserve.isNext) { () throws(MCFSError) in
            .lower(try lower.open(entry, content))
        }
    }

    package func readSucceeded(bytes: Int) { counters.answered(bytes) }
    package func readFailed() { counters.failed() }
    package var reads: ReadStatistics { counters.snapshot }

    /// Where the tree has a file; nil for one that it does not have.
    package func path(of node: Node) -> TreePath? {
        node.entry(count: tree.count).map { tree.path(of: $0) }
    }

    /// Files that are open now.
    package var openFileCount: Int { openFiles.count }

    private func entry(of node: Node) throws(MCFSError) -> Tree.Index {
        guard let entry = node.entry(count: tree.count) else {
            throw MCFSError(.notFound, "there is no node \(node.number) in this mount")
        }
        return entry
    }
}

extension ContentReading {
    /// Tells opens of one file apart where bytes turned out wrong between them; never 0.
    package var handle: UInt64 { UInt64(generation) + 1 }
}

extension OpenContent {
    var opened: MountFS.Opened {
        switch self {
        case .lower(let file): .lower(file)
        case .unread: .unread
        case .empty: .empty
        case .upper(let descriptor): .upper(descriptor)
        }
    }
}
