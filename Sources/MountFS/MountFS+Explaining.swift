package import Catalog
package import MCFSCore
internal import Upper

/// What shows at a path, for those who ask why.
extension MountFS {
    package enum Shown: Sendable {
        case upper
        /// The entry of the tree that shows there, which may have been moved.
        case tree(Tree.Index)
        /// The tree's entry is hidden by the view.
        case hidden(Tree.Index)
        /// It was taken away through the mount.
        case removed
        case nothing
    }

    package func shown(at path: TreePath) throws(Errno) -> Shown { try files.shown(at: path) }

    /// As text, where the entry has it.
    package func text(of attribute: ExtendedAttribute, _ entry: Tree.Index) -> String? {
        lower.value(of: attribute, entry).map { String(decoding: $0, as: UTF8.self) }
    }
}

extension Overlay {
    package func shown(at path: TreePath) throws(Errno) -> MountFS.Shown {
        try structure.reading { () throws(Errno) in
            var directory = try directory(.root)
            var shown = MountFS.Shown.tree(Tree.root)
            for (depth, name) in path.components.enumerated() {
                switch try find(name, in: directory) {
                case .upper(let node, _):
                    // Nobody was told of it.
                    defer { nodes.forget(node.number, 0) }
                    shown = .upper
                    guard depth + 1 < path.components.count else { break }
                    guard node.isDirectory else { return .nothing }
                    directory = try self.directory(Node(number: node.number))
                case .lower(let entry, let node):
                    shown = .tree(entry)
                    guard depth + 1 < path.components.count else { break }
                    guard tree.attributes(of: entry).kind == .directory else { return .nothing }
                    directory = Directory(number: Node(entry: entry).number, lower: entry, folder: node?.now.folder)
                case nil:
                    if directory.folder?.mark(name) == .whiteout { return .removed }
                    return lowerEntry(name, in: directory).map { .hidden($0) } ?? .nothing
                }
            }
            return shown
        }
    }
}
