internal import Catalog
internal import ChunkStore
internal import ControlAPI
internal import Glibc
internal import MCFSCore
internal import MountFS

/// The part of a tree that a request means.
struct Selection: Sendable {
    var tree: Tree
    /// nil: nothing of it will be fetched.
    var sources: TreeSources?
    /// Where in the tree it begins: a directory or a single file.
    var top: Tree.Index
    var filter: PathFilter
    /// Files, and directories with all that is in them.
    var isLeftOut: @Sendable (Tree.Index) -> Bool = { _ in false }

    init(tree: Tree, sources: TreeSources?, at path: TreePath, filter: PathFilter) throws(MCFSError) {
        guard let top = tree.entry(at: path) else { throw MCFSError(.notFound, "there is no '\(path)' in it") }
        self.tree = tree
        self.sources = sources
        self.top = top
        self.filter = filter
    }

    /// Every entry below the top (or the top itself, where it is no directory) that the filter lets through, parents
    /// first. Paths count from the top.
    func forEach(recursive: Bool, _ body: (Tree.Index, TreePath) -> Void) {
        let prefix = tree.path(of: top)
        guard tree.attributes(of: top).kind == .directory else {
            let path = tree.path(of: top).removing(prefix: prefix.parent) ?? prefix
            if filter.contains(path) { body(top, path) }
            return
        }
        var pending = [top]
        while let directory = pending.popLast() {
            var below: [Tree.Index] = []
            for entry in tree.children(of: directory) where !isLeftOut(entry) {
                guard let path = tree.path(of: entry).removing(prefix: prefix) else { continue }
                if filter.contains(path) { body(entry, path) }
                if recursive, tree.attributes(of: entry).kind == .directory { below.append(entry) }
            }
            pending.append(contentsOf: below.reversed())
        }
    }

    /// Each distinct content of the files in it once.
    func contents() -> [Content] {
        var seen: Set<BlobID> = []
        var result: [Content] = []
        forEach(recursive: true) { entry, _ in
            if let content = tree.content(of: entry), seen.insert(content.id).inserted { result.append(content) }
        }
        return result
    }

    /// What the cache needs to fetch them.
    func fileContents(where isWanted: (Content) -> Bool = { _ in true }) -> [FileContent] {
        contents().filter(isWanted).compactMap { content in try? sources?.content(content) }
    }
}
