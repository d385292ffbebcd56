internal import CLinux
internal import Glibc
package import MCFSCore

/// Going back to the tree: what is remembered is forgotten.
extension UpperDirectory {
    /// All that is remembered of names, each with its path from the root of the mount.
    package var marks: [TreePath: Mark] {
        var marks: [TreePath: Mark] = [:]
        root.forEachMark { marks[$0] = $1 }
        return marks
    }

    /// Forgets the marks of names, and with each of them those of all names below it. The folders stay where they are, for
    /// those who know them. Nobody else changes anything meanwhile. If this throws, all is remembered as before.
    ///
    /// - Parameters:
    ///   - metadata: what files of the tree look like from now on; an empty value: as the tree has them.
    ///   - body: called when that is on the disk, and before it counts: what it throws takes it back.
    package func forget(
        _ marks: Set<TreePath>, metadata: [(lower: TreePath, value: LowerMetadata)],
        _ body: () throws(Errno) -> Void
    ) throws(Errno) {
        let tops = marks.filter { path in
            var above = path
            while !above.isRoot {
                above = above.parent
                if marks.contains(above) { return false }
            }
            return true
        }
        try alone { () throws(Errno) in
            let records = tops.map { .clear($0) } + metadata.map { ChangeRecord.metadata($0.lower, $0.value) }
            try withoutActuallyEscaping(body) { (body) throws(Errno) in try log.perform(records, body) }
            for path in marks { root.folder(at: path.parent).setMark(nil, path.name) }
            for (lower, value) in metadata { log.remembered.setMetadata(value, lower) }
        }
        log.compactIfLong()
    }

    /// Takes the directory of a folder from the disk, of which nothing is remembered; the folder stays.
    package func removeDirectory(_ name: [UInt8], in folder: UpperFolder) throws(Errno) {
        let parent = try descriptor(of: folder)
        try log.settle()
        _ = try retryingOnInterrupt { name.withTerminated { unlinkat(parent.rawValue, $0, AT_REMOVEDIR) } }
        if let own = folder.known(name) { forget(own) }
    }
}
