internal import Catalog
internal import Glibc
package import MCFSCore
internal import Upper

/// What was added, changed and removed over the tree.
extension Overlay {
    package struct Difference: Sendable {
        package enum Kind: String, Sendable { case added, changed, removed }

        package var path: TreePath
        package var kind: Kind
        package var type: NodeAttributes.Kind
        /// Bytes of a file; 0 else.
        package var size: UInt64 = 0
        /// Where the tree has what shows here: its bytes are still the tree's.
        package var from: TreePath?
        /// The bytes are the tree's; owner, mode, times or attributes are not.
        package var isMetadataOnly = false
        /// A directory that shows nothing of the one that the tree has at its path.
        package var isOpaque = false
    }

    /// All differences in the order of their paths. One directory is looked at at a time: what changes meanwhile is told
    /// as it was before or after.
    package func differences() throws(Errno) -> [Difference] {
        var differences: [Difference] = []
        // Directories of the upper have their nodes until they were looked at.
        var pending: [(node: Node, path: TreePath)] = [(.root, .root)]
        defer { for next in pending { nodes.release(next.node.number) } }
        while let next = pending.popLast() {
            defer { nodes.release(next.node.number) }
            do throws(Errno) {
                try looking(in: next.node) { (directory) throws(Errno) in
                    var own: [Difference] = []
                    try addDifferences(in: directory, next.path, to: &own, &pending)
                    differences += own
                }
            } catch {
                // Removed, or replaced, since it was found.
                guard error == .stale || error == .noEntry || error == .notDirectory else { throw error }
            }
        }
        try addMetadata(to: &differences)
        return differences.sorted { $0.path.bytes.lexicographicallyPrecedes($1.path.bytes) }
    }

    /// - Parameter below: gets the directories in it that may hold more, each counted once.
    private func addDifferences(
        in directory: Directory, _ path: TreePath, to differences: inout [Difference],
        _ below: inout [(node: Node, path: TreePath)]
    ) throws(Errno) {
        guard let folder = directory.folder else { return }
        var seen: Set<[UInt8]> = []
        for entry in try upper.entries(of: folder) {
            guard case .upper(let node, let status) = try find(entry.name, in: directory) else { continue }
            seen.insert(entry.name)
            let place = path.appending(entry.name)
            let natural = naturalEntry(entry.name, in: directory)
            let attributes = attributes(of: node, status)
            var difference = Difference(
                path: place, kind: natural == nil ? .added : .changed, type: attributes.kind,
                size: attributes.kind == .file ? attributes.size : 0)
            if node.now.isDirectory {
                nodes.count(node)
                below.append((Node(number: node.number), place))
                let shown = node.now.shown
                if let shown, shown == natural {
                    // Everything that changes in a directory makes it; it is told where it looks different itself.
                    let was = lower.attributes(of: shown)
                    difference.isMetadataOnly = true
                    if (was.permissions, was.uid, was.gid) == (attributes.permissions, attributes.uid, attributes.gid) {
                        continue
                    }
                } else if let shown {
                    difference.from = tree.path(of: shown)
                } else {
                    difference.isOpaque = natural.map { tree.attributes(of: $0).kind == .directory } ?? false
                }
            } else {
                nodes.forget(node.number, 0)
            }
            differences.append(difference)
        }
        for (name, mark) in folder.marks
        where !seen.contains(name) {
            let place = path.appending(name)
            switch mark {
            case .whiteout:
                guard let entry = naturalEntry(name, in: directory) else { continue }
                differences.append(difference(.removed, place, entry))
            case .redirect(let lower):
                guard let entry = tree.entry(at: lower) else { continue }
                var difference = difference(naturalEntry(name, in: directory) == nil ? .added : .changed, place, entry)
                difference.from = lower
                differences.append(difference)
                if folder.known(name) != nil, case .lower(_, let node?) = try find(name, in: directory) {
                    below.append((Node(number: node.number), place))
                }
            }
        }
    }

    private func difference(_ kind: Difference.Kind, _ path: TreePath, _ entry: Tree.Index) -> Difference {
        let attributes = tree.attributes(of: entry)
        return Difference(
            path: path, kind: kind, type: NodeAttributes.Kind(attributes.kind),
            size: attributes.kind == .file ? attributes.size : 0)
    }

    /// Files of the tree that look different where they always were.
    private func addMetadata(to differences: inout [Difference]) throws(Errno) {
        let told = Set(differences.map(\.path))
        for path in upper.metadata.keys {
            guard !told.contains(path), let entry = tree.entry(at: path), try isShown(entry) else { continue }
            var difference = difference(.changed, path, entry)
            difference.isMetadataOnly = true
            differences.append(difference)
        }
    }
}
