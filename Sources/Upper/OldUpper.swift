internal import Glibc
package import MCFSCore

/// What an upper that nobody mounts remembers of the tree below it.
package struct OldUpper: Sendable {
    /// Parents before children; paths of the mount that wrote it.
    package let marks: [(path: TreePath, mark: Mark)]
    /// Of files of the tree that have their bytes from there.
    package let metadata: [TreePath: LowerMetadata]
    /// What cannot be read of it, in words.
    package let problem: String?

    package var isEmpty: Bool { marks.isEmpty && metadata.isEmpty }

    /// nil for a directory that is no upper. Changes nothing on the disk: a rename that was under way counts where the disk
    /// has followed.
    ///
    /// - Throws: `localIO` where it cannot be read, `configuration` for a version that this program does not know.
    package init?(ofDirectory path: String) throws(MCFSError) {
        let root: OwnedDescriptor
        do throws(Errno) { root = try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY) } catch {
            if error == .noEntry || error.rawValue == ENOTDIR { return nil }
            throw MCFSError(localIO: "look for what \(path) remembers", error)
        }
        guard let earlier = try EarlierLog(root: root) else { return nil }
        var records = earlier.log.records
        if earlier.lastRename?.isUndone(root: root) == true { records.removeLast() }
        let remembered = Remembered()
        for record in records { remembered.apply(record) }
        remembered.hideWhatMoved()
        var marks: [(path: TreePath, mark: Mark)] = []
        remembered.root.forEachMark { marks.append(($0, $1)) }
        self.marks = marks
        metadata = remembered.metadata
        problem =
            earlier.log.damagedLines == 0
            ? nil : "\(earlier.damage) in \(path) cannot be read: \(EarlierLog.consequence)"
    }
}
