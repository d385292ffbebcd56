internal import Catalog
internal import KernelCaches

/// Entries of Triton's of which one is enough.
enum Duplicates {
    /// Those that lie in one cache directory and have the same files with the same bytes, what the kernel was compiled
    /// from among them. Group records may differ, as they hold paths, and metadata in its hash. Of these one stays: one
    /// whose directory is named by its hash, the newest of them.
    ///
    /// - Parameter candidates: positions of entries.
    /// - Returns: of each that may go the one that stays.
    static func find(among candidates: [Int], in kernels: FolderKernels) -> [Int: Int] {
        struct Likeness: Hashable {
            var parent: Tree.Index
            var signature: [UInt8]
            /// Sizes of what must be equal, by name.
            var files: [[UInt8]: UInt64]
        }
        let tree = kernels.scan.tree
        var alike: [Likeness: [Int]] = [:]
        for position in candidates {
            let entry = kernels.survey.entries[position]
            guard entry.kind == .triton, let metadata = kernels.found[position]?.metadata,
                let files = sizes(in: entry.directory, of: tree, without: metadata.name),
                files.keys.contains(where: TritonFile.isSource)
            else { continue }
            let likeness = Likeness(
                parent: tree.parent(of: entry.directory), signature: metadata.signature, files: files)
            alike[likeness, default: []].append(position)
        }
        var duplicates: [Int: Int] = [:]
        for (likeness, positions) in alike where positions.count > 1 {
            for equal in classes(of: positions, Array(likeness.files.keys), kernels) {
                guard let staying = equal.max(by: { rank(of: $0, kernels) < rank(of: $1, kernels) }) else { continue }
                for position in equal where position != staying { duplicates[position] = staying }
            }
        }
        return duplicates
    }

    /// Whether a file of an entry is in another with the same bytes, if it is one that must be.
    static func isSame(
        _ name: [UInt8], of found: FolderKernels.Found, in folder: Folder, and other: Folder
    ) -> Bool {
        name == found.metadata?.name || TritonFile.isGroup(name) || (try? folder.hasSameFile(name, as: other)) ?? false
    }

    /// nil where there is anything but files.
    private static func sizes(
        in directory: Tree.Index, of tree: Tree, without metadata: [UInt8]
    ) -> [[UInt8]: UInt64]? {
        var sizes: [[UInt8]: UInt64] = [:]
        for child in tree.children(of: directory) {
            let attributes = tree.attributes(of: child)
            guard attributes.kind == .file else { return nil }
            let name = tree.withName(of: child) { Array($0) }
            if name != metadata { sizes[name] = TritonFile.isGroup(name) ? 0 : attributes.size }
        }
        return sizes
    }

    /// What cannot be read is equal to nothing.
    private static func classes(of positions: [Int], _ names: [[UInt8]], _ kernels: FolderKernels) -> [[Int]] {
        var classes: [(first: Folder, members: [Int])] = []
        for position in positions {
            guard let found = kernels.found[position],
                let folder = kernels.directory(of: kernels.survey.entries[position])
            else { continue }
            let known = classes.firstIndex { known in
                names.allSatisfy { isSame($0, of: found, in: folder, and: known.first) }
            }
            if let known { classes[known].members.append(position) } else { classes.append((folder, [position])) }
        }
        return classes.map(\.members)
    }

    /// The greatest stays.
    private static func rank(of position: Int, _ kernels: FolderKernels) -> Rank {
        guard let kernel = kernels.found[position]?.kernel else { return Rank() }
        let name = kernel.path.split(separator: UInt8(ascii: "/")).last ?? []
        let keys = kernel.hash.map(TritonFile.keys(ofHash:)) ?? []
        return Rank(
            isAtItsKey: keys.contains { name.elementsEqual($0.utf8) }, modified: kernel.modified, path: kernel.path)
    }

    private struct Rank: Comparable {
        var isAtItsKey = false
        var modified = Int64.min
        var path: [UInt8] = []

        static func < (one: Rank, other: Rank) -> Bool {
            if one.isAtItsKey != other.isAtItsKey { return other.isAtItsKey }
            if one.modified != other.modified { return one.modified < other.modified }
            return one.path.lexicographicallyPrecedes(other.path)
        }
    }
}
