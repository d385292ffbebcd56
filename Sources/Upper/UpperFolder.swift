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
/// rename takes along what is remembered below. They may hang as deep as anybody makes directories: nothing here calls
/// itself for each level.
///
/// Thread safe; what takes several calls is done while `names` is held, and what moves folders while `ChangeLog.alone` is.
/// A folder's state is never locked while another's is.
package final class UpperFolder: Sendable {
    private struct State {
        /// nil for the root, and for what was removed.
        weak var parent: UpperFolder?
        var name: [UInt8]
        var marks: [[UInt8]: Mark] = [:]
        var folders: [[UInt8]: UpperFolder] = [:]
        var identity: DiskIdentity?
        var hasDefaultAccessList: Bool?
    }

    private static let count = Atomic<UInt64>(0)

    /// Held for reading by who looks at names in the directory, for writing by who changes them, also while the disk does.
    /// Of several, in the order of their numbers.
    package let names = ReadWriteLock()
    package let number = UpperFolder.count.wrappingAdd(1, ordering: .relaxed).newValue
    private let state: Lock<State>
    let descriptor = Lock<OwnedDescriptor?>(nil)

    init(name: [UInt8] = [], parent: UpperFolder? = nil) {
        state = Lock(State(parent: parent, name: name))
    }

    deinit {
        // Else each folder would free the next one in it, with a call for each level.
        var pending = takeFolders()
        while var folder = pending.popLast() {
            if isKnownUniquelyReferenced(&folder) { pending += folder.takeFolders() }
        }
    }

    private func takeFolders() -> [UpperFolder] {
        state.withLock { state in
            defer { state.folders = [:] }
            return Array(state.folders.values)
        }
    }

    package var parent: UpperFolder? { state.withLock { $0.parent } }
    package var name: [UInt8] { state.withLock { $0.name } }
    package var marks: [[UInt8]: Mark] { state.withLock { $0.marks } }

    /// Which directory of the disk it is; nil where the upper does not have it.
    package var identity: DiskIdentity? {
        get { state.withLock { $0.identity } }
        set { state.withLock { $0.identity = newValue } }
    }

    package var isOnDisk: Bool { identity != nil }

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

    /// Names of directories in it that something is known of.
    package var knownNames: [[UInt8]] { state.withLock { Array($0.folders.keys) } }

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
    @discardableResult
    package func detach(_ name: [UInt8]) -> UpperFolder? {
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
    var hasMarks: Bool {
        var pending = [self]
        while let folder = pending.popLast() {
            let isMarked = folder.state.withLock { state in
                pending += state.folders.values
                return !state.marks.isEmpty
            }
            if isMarked { return true }
        }
        return false
    }

    /// All marks, each with its path from the root of the mount, parents before children.
    package func forEachMark(_ body: (TreePath, Mark) -> Void) {
        var pending = [self]
        while let folder = pending.popLast() {
            let marks = folder.state.withLock { state in
                pending += state.folders.values
                return state.marks
            }
            if marks.isEmpty { continue }
            let path = folder.path
            for (name, mark) in marks { body(path.appending(name), mark) }
        }
    }
}
