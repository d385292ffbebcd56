package import Catalog

/// The kernels of a tree, by names alone: nothing is read.
///
/// What is no entry has no target and is always shown: launchers, autotuning results, writes under way, empty directories.
package struct KernelSurvey: Sendable {
    /// In the order of their directories in the tree.
    package private(set) var entries: [KernelEntry]
    /// `__grp__NAME.json` files, by their names, whatever directory they are in.
    package let groupFiles: [Tree.Index]

    let tree: Tree
    private let positions: [Tree.Index: Int]

    /// One pass over the tree.
    package init(_ tree: Tree) {
        var entries: [KernelEntry] = []
        var groupFiles: [Tree.Index] = []
        var positions: [Tree.Index: Int] = [:]
        for directory in 0..<Tree.Index(tree.count) where tree.isDirectory(directory) {
            let files = TritonFiles(of: directory, in: tree)
            groupFiles += files.groups
            guard let entry = files.entry ?? tree.otherEntry(directory) else { continue }
            positions[directory] = entries.count
            entries.append(entry)
        }
        self.tree = tree
        self.groupFiles = groupFiles
        self.positions = positions
        self.entries = entries
        guard entries.contains(where: { $0.kind == .vllm }) else { return }
        // Directories come before what is in them, so each part finds the entry that it lies in.
        for (position, entry) in entries.enumerated() where entry.directory != Tree.root {
            guard let whole = self.entry(holding: tree.parent(of: entry.directory)), entries[whole].kind == .vllm else {
                continue
            }
            self.entries[whole].parts.append(position)
        }
    }

    /// The innermost entry whose directory is or contains this one.
    package func entry(holding index: Tree.Index) -> Int? {
        var index = index
        while true {
            if let position = positions[index] { return position }
            guard index != Tree.root else { return nil }
            index = tree.parent(of: index)
        }
    }
}

/// What the names in a directory say of Triton.
private struct TritonFiles {
    var groups: [Tree.Index] = []
    var entry: KernelEntry?

    init(of directory: Tree.Index, in tree: Tree) {
        var metadata: [Tree.Index] = []
        var holdsOthers = directory == Tree.root
        for child in tree.children(of: directory) {
            let kind = tree.attributes(of: child).kind
            tree.withName(of: child) { name in
                if kind == .directory {
                    // An entry is flat: what has directories is a place where entries lie, whatever else is in it.
                    if !TritonFile.isTemporary(name) { holdsOthers = true }
                } else if kind == .file {
                    if TritonFile.isGroup(name) { groups.append(child) }
                    if TritonFile.isMetadata(name) { metadata.append(child) }
                }
            }
        }
        guard !metadata.isEmpty, !holdsOthers else { return }
        // The kernel is the one that has a group, else the one beside whose metadata lies what only Triton writes.
        let named =
            groups.isEmpty
            ? Self.namesOfKernels(in: directory, of: tree)
            : Set(groups.map { tree.withName(of: $0) { Array($0.dropFirst(TritonFile.groupPrefix.utf8.count)) } })
        let isNamed = { (file: Tree.Index) in tree.withName(of: file) { named.contains(Array($0)) } }
        let kernels = metadata.filter(isNamed)
        guard !groups.isEmpty || !kernels.isEmpty else { return }
        // Where one of several has a group it is that one; else nobody can tell.
        entry = KernelEntry(
            .triton, directory, metadata: kernels + metadata.filter { !isNamed($0) },
            isOpaque: metadata.count > 1 && (groups.isEmpty || kernels.count != 1))
    }

    /// `NAME.json` of each `NAME.cubin` and the like; none in a directory that is not named by a key.
    private static func namesOfKernels(in directory: Tree.Index, of tree: Tree) -> Set<[UInt8]> {
        guard tree.withName(of: directory, TritonFile.isKey) else { return [] }
        var names: Set<[UInt8]> = []
        for child in tree.children(of: directory) where tree.attributes(of: child).kind == .file {
            if let name = tree.withName(of: child, TritonFile.kernelName) { names.insert(name + ".json".utf8) }
        }
        return names
    }
}
