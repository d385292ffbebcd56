internal import Catalog
internal import ControlAPI
internal import KernelCaches
internal import MCFSCore
internal import MountFS

/// Shows Triton's lists of files (`__grp__NAME.json`) with the paths that the files have in the mount: as they are stored,
/// these name the place where the cache was made, and an engine that does not find that compiles anew.
///
/// The size that such a file shows follows from the tree, so that nobody must fetch it to be told: each path can grow by
/// no more than the new folder's length. What is left over is filled with spaces, which JSON allows.
enum GroupRewriting {
    /// Larger files are no such lists.
    private static let storedBytesMax: UInt64 = 64 << 10
    /// An entry has some ten files. What would grow beyond this, by many files or a long path, is left alone, in bytes.
    private static let filesMax = 64
    private static let shownBytesMax: UInt64 = 256 << 10
    /// For separators that a list was written without, a path each, in bytes.
    private static let slackBytes = 8

    /// - Parameter root: where the mount is seen by engines; nil: paths stay.
    /// - Returns: nil where nothing is rewritten.
    static func rewriting(_ survey: KernelSurvey, _ tree: Tree, root: String?, slim: Bool) -> TreeView.Rewriting? {
        if root == nil && !slim { return nil }
        var sizes: [Tree.Index: UInt64] = [:]
        sizes.reserveCapacity(survey.groupFiles.count)
        let rootBytesMax = root.map { bytesMax(of: $0) }
        for file in survey.groupFiles {
            let attributes = tree.attributes(of: file)
            guard attributes.size > 0, attributes.size <= storedBytesMax, attributes.linkCount == 1 else { continue }
            var size = attributes.size
            if let rootBytesMax {
                let folder = tree.parent(of: file)
                let files = tree.children(of: folder).count
                guard files <= filesMax, let path = bytesMax(of: folder, tree) else { continue }
                size += UInt64((rootBytesMax + path + slackBytes) * files)
                guard size <= shownBytesMax else { continue }
            }
            sizes[file] = size
        }
        if sizes.isEmpty { return nil }
        let all = sizes
        return TreeView.Rewriting(sizes: sizes) { [tree] file, stored in
            shown(stored, size: Int(all[file] ?? 0)) { group in
                var group = group
                if let root, let directory = directory(tree.parent(of: file), tree, root) {
                    group = group.rebased(to: directory)
                }
                // Triton 3.8 compiles again where a file is listed and missing.
                return group.leavingOut { name in
                    TritonFile.isIntermediate(name.utf8) && (slim || !tree.has(name, beside: file))
                }
            }
        }
    }

    /// nil where JSON has no text for the path.
    private static func directory(_ folder: Tree.Index, _ tree: Tree, _ root: String) -> String? {
        let path = tree.path(of: folder)
        guard let text = String(validating: path.bytes, as: UTF8.self) else { return nil }
        return path.isRoot ? root : (root == "/" ? "" : root) + "/" + text
    }

    /// What `directory` adds to the root, as JSON text.
    private static func bytesMax(of folder: Tree.Index, _ tree: Tree) -> Int? {
        var count = 0
        var folder = folder
        while folder != Tree.root {
            let name = tree.withName(of: folder) { name in
                name.allSatisfy { isPlain(UInt16($0)) }
                    ? name.count : String(validating: name, as: UTF8.self).map { bytesMax(of: $0) }
            }
            guard let name else { return nil }
            count += 1 + name
            folder = tree.parent(of: folder)
        }
        return count
    }

    private static func bytesMax(of text: String) -> Int { text.utf16.reduce(0) { $0 + (isPlain($1) ? 1 : 6) } }

    /// What is not plain ASCII may be written as `\uXXXX`.
    private static func isPlain(_ unit: UInt16) -> Bool { 0x20..<0x7f ~= unit && unit != 0x22 && unit != 0x5c }

    /// What is no such list, or would not fit, shows as it is stored.
    private static func shown(_ stored: [UInt8], size: Int, _ change: (TritonGroup) -> TritonGroup) -> [UInt8] {
        var bytes = stored
        if let group = TritonGroup(stored), !group.isRelocatable {
            let changed = change(group).serialized()
            if changed.count <= size { bytes = changed }
        }
        bytes += [UInt8](repeating: UInt8(ascii: " "), count: max(0, size - bytes.count))
        return Array(bytes.prefix(size))
    }
}

extension Tree {
    fileprivate func has(_ name: Substring, beside file: Index) -> Bool {
        Array(name.utf8).withUnsafeBytes { lookup($0, in: parent(of: file)) } != nil
    }
}
