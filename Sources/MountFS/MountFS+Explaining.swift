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
        var directory = Node.root
        var shown = MountFS.Shown.tree(Tree.root)
        // Nobody was told of them.
        var found: [UInt64] = []
        defer { for number in found { nodes.forget(number, 0) } }
        for (depth, name) in path.components.enumerated() {
            let isLast = depth + 1 == path.components.count
            let next = try looking(in: directory) { (directory) throws(Errno) -> Node? in
                switch try find(name, in: directory) {
                case .upper(let node, _):
                    found.append(node.number)
                    shown = isLast || node.now.isDirectory ? .upper : .nothing
                    return node.now.isDirectory ? Node(number: node.number) : nil
                case .lower(let entry, _):
                    let isDirectory = tree.attributes(of: entry).kind == .directory
                    shown = isLast || isDirectory ? .tree(entry) : .nothing
                    return isDirectory ? Node(entry: entry) : nil
                case nil:
                    if directory.folder?.mark(name) == .whiteout {
                        shown = .removed
                    } else {
                        shown = lowerEntry(name, in: directory).map { .hidden($0) } ?? .nothing
                    }
                    return nil
                }
            }
            guard let next, !isLast else { break }
            directory = next
        }
        return shown
    }
}
