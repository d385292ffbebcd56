package import MCFSCore
internal import Synchronization

/// What stands for a name of a directory instead of what the tree below has there. What the upper has at a name goes
/// before both.
package enum Mark: Hashable, Sendable {
    /// Nothing: it was deleted, or what stands in the upper replaces it and does not merge with it.
    case whiteout
    /// An entry from another place of the tree: it was renamed.
    case redirect(TreePath)
}

/// A directory of the mount as far as the upper knows it: where it stands, what of the tree below is hidden or moved in
/// it, and its counterpart on the disk, if it has one. Folders hang together by name as the directories do, so that a
/// rename takes along what is remembered below.
///
/// Thread safe; what takes several calls is done while the overlay's lock is held for writing. A folder's lock is never
/// held while another's is taken.
package final class UpperFolder: Sendable {
    private struct State {
        /// nil for the root, and for what was removed.
        weak var parent: UpperFolder?
        var name: [UInt8]
        var marks: [[UInt8]: Mark] = [:]
        var folders: [[UInt8]: UpperFolder] = [:]
        var isOnDisk = false
        var hasDefaultAccessList: Bool?
    }

    private let state: Lock<State>
    let descriptor = Lock<OwnedDescriptor?>(nil)

    init(name: [UInt8] = [], parent: UpperFolder? = nil) {
        state = Lock(State(parent: parent, name: name))
    }

    package var parent: UpperFolder? { state.withLock { $0.parent } }
    package var name: [UInt8] { state.withLock { $0.name } }
    package var marks: [[UInt8]: Mark] { state.withLock { $0.marks } }
    package var folders: [[UInt8]: UpperFolder] { state.withLock { $0.folders } }

    /// Whether the upper has this directory.
    package var isOnDisk: Bool {
        get { state.withLock { $0.isOnDisk } }
        set { state.withLock { $0.isOnDisk = newValue } }
    }

    /// Whether what is made in it gets an access control list from it; nil: not known.
    package var hasDefaultAccessList: Bool? {
        get { state.withLock { $0.hasDefaultAccessList } }
        set { state.withLock { $0.hasDefaultAccessList = newValue } }
    }

    /// From the root of the mount.
    package var path: TreePath {
        var names: [[UInt8]] = []
        var folder = self
        while let parent = folder.parent {
            names.append(folder.name)
            folder = parent
        }
        var path = TreePath.root
        path.components = names.reversed()
        return path
    }

    package func mark(_ name: [UInt8]) -> Mark? { state.withLock { $0.marks[name] } }

    func setMark(_ mark: Mark?, _ name: [UInt8]) { state.withLock { $0.marks[name] = mark } }

    /// nil where nothing is known of a directory of that name.
    package func known(_ name: [UInt8]) -> UpperFolder? { state.withLock { $0.folders[name] } }

    /// The folder of a directory in this one; made where nothing is known of it yet.
    package func folder(_ name: [UInt8]) -> UpperFolder {
        state.withLock { state in
            if let known = state.folders[name] { return known }
            let made = UpperFolder(name: name, parent: self)
            state.folders[name] = made
            return made
        }
    }

    func folder(at path: TreePath) -> UpperFolder { path.components.reduce(self) { $0.folder($1) } }

    /// Takes a directory out of its place. - Returns: nil where nothing is known of it.
    func detach(_ name: [UInt8]) -> UpperFolder? {
        let folder = state.withLock { $0.folders.removeValue(forKey: name) }
        folder?.state.withLock { $0.parent = nil }
        return folder
    }

    func attach(_ folder: UpperFolder?, _ name: [UInt8]) {
        _ = detach(name)
        guard let folder else { return }
        folder.state.withLock { state in
            state.parent = self
            state.name = name
        }
        state.withLock { $0.folders[name] = folder }
    }

    /// Whether something is remembered of names in it or below.
    var hasMarks: Bool { !marks.isEmpty || folders.values.contains { $0.hasMarks } }

    /// All marks, each with its path, parents before children.
    package func forEachMark(_ body: (TreePath, Mark) -> Void) { forEachMark(path, body) }

    private func forEachMark(_ path: TreePath, _ body: (TreePath, Mark) -> Void) {
        for (name, mark) in marks { body(path.appending(name), mark) }
        for (name, folder) in folders { folder.forEachMark(path.appending(name), body) }
    }
}
