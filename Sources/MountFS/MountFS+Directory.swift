internal import Catalog
package import MCFSCore

/// Positions in a directory: 0 is before ".", 1 before "..", i + 2 before child i. They follow from the tree alone, so
/// a listing can go on after any pause, and from another server of the same tree.
extension MountFS {
    package struct DirectoryEntry: Sendable {
        /// What `stat` would show; for ".." of the root, the root.
        package let attributes: NodeAttributes
        /// Where the listing goes on behind this entry.
        package let nextPosition: UInt64
        /// Whether it is "." or "..", or has no attributes: a listing with attributes must not count those as looked up.
        package let isDot: Bool
    }

    /// Gives the entries from `position` on to `body`, which returns false to stop: the entry was not taken then. The
    /// name is valid during the call and not terminated.
    ///
    /// - Throws: `usage` for what is no directory.
    package func list(
        _ directory: Node, from position: UInt64, _ body: (UnsafeRawBufferPointer, DirectoryEntry) -> Bool
    ) throws(MCFSError) {
        let entry = try entry(of: directory)
        guard tree.attributes(of: entry).kind == .directory else {
            throw MCFSError(.usage, "cannot list '\(tree.path(of: entry))': it is no directory")
        }
        let children = tree.children(of: entry)
        var position = position
        while position < UInt64(children.count) + 2 {
            let isDot = position < 2
            let shown: Tree.Index =
                switch position {
                case 0: entry
                case 1: entry == Tree.root ? entry : tree.parent(of: entry)
                default: children.lowerBound + Tree.Index(position - 2)
                }
            position += 1
            if !isDot && view.hides(shown) { continue }
            let found = DirectoryEntry(attributes: lower.attributes(of: shown), nextPosition: position, isDot: isDot)
            let isTaken =
                isDot
                ? ([UInt8](repeating: UInt8(ascii: "."), count: Int(position))).withUnsafeBytes { body($0, found) }
                : tree.withName(of: shown) { body($0, found) }
            if !isTaken { return }
        }
    }
}
