internal import MCFSCore
internal import Synchronization

/// The mounts of a daemon by mountpoint.
///
/// A mountpoint is reserved before a mount is made and given back if that fails, so two requests for the same place
/// never race and nothing half made is ever listed. A mount that was detached lazily is no longer listed but keeps the
/// daemon alive until its last file is closed. One lock, held for dictionary operations only.
final class MountTable: Sendable {
    private enum Entry {
        case reserved
        case mounted(Mount)
    }

    private struct State {
        var entries: [String: Entry] = [:]
        var detached: [ObjectIdentifier: Mount] = [:]
        var isClosed = false
        /// Mounts that ended before they were entered.
        var endedEarly: Set<String> = []
    }

    private let state = Lock(State())

    /// In the order of their mountpoints.
    var all: [Mount] {
        state.withLock { state in
            state.entries.sorted { $0.key < $1.key }.compactMap {
                if case .mounted(let mount) = $0.value { mount } else { nil }
            }
        }
    }

    var isEmpty: Bool { state.withLock { $0.entries.isEmpty && $0.detached.isEmpty } }

    /// - Throws: `busy` where a mount is there or being made, `cancelled` where the daemon ends.
    func reserve(_ mountpoint: String) throws(MCFSError) {
        let error: MCFSError? = state.withLock { state in
            if state.isClosed { return MCFSError(.cancelled, "the daemon is ending", isTransient: true) }
            if state.entries[mountpoint] != nil {
                return MCFSError(
                    .busy,
                    "\(mountpoint) is mounted already; unmount it with 'mcfs umount \(mountpoint)' or give another mountpoint"
                )
            }
            state.entries[mountpoint] = .reserved
            return nil
        }
        if let error { throw error }
    }

    func giveBack(_ mountpoint: String) {
        state.withLock { state in
            state.entries[mountpoint] = nil
            state.endedEarly.remove(mountpoint)
        }
    }

    /// Lists a mount at its reserved place, unless it is gone already.
    func enter(_ mount: Mount) {
        state.withLock { state in
            state.entries[mount.mountpoint] = state.endedEarly.remove(mount.mountpoint) == nil ? .mounted(mount) : nil
        }
    }

    /// The mount at `mountpoint` ended by itself or by `unmount`. `mount` nil: it was never entered.
    func ended(_ mountpoint: String, _ mount: Mount?) {
        state.withLock { state in
            if let mount, state.detached.removeValue(forKey: ObjectIdentifier(mount)) != nil { return }
            switch state.entries[mountpoint] {
            case .reserved where mount == nil: state.endedEarly.insert(mountpoint)
            case .mounted(let listed) where mount == nil || listed === mount: state.entries[mountpoint] = nil
            default: break
            }
        }
    }

    /// Takes a mount off the list while its server lives on.
    func detach(_ mount: Mount) {
        state.withLock { state in
            guard case .mounted(let listed) = state.entries[mount.mountpoint], listed === mount else { return }
            state.entries[mount.mountpoint] = nil
            state.detached[ObjectIdentifier(mount)] = mount
        }
    }

    func mount(at mountpoint: String) -> Mount? {
        state.withLock { if case .mounted(let mount) = $0.entries[mountpoint] { mount } else { nil } }
    }

    /// The innermost mount that holds an absolute path, and the path below its root.
    func mount(holding path: String) -> (mount: Mount, path: TreePath)? {
        let found = all.filter {
            path == $0.mountpoint || path.hasPrefix($0.mountpoint == "/" ? "/" : $0.mountpoint + "/")
        }
        .max { $0.mountpoint.utf8.count < $1.mountpoint.utf8.count }
        guard let found, let below = try? TreePath(Array(path.utf8.dropFirst(found.mountpoint.utf8.count))) else {
            return nil
        }
        return (found, below)
    }

    /// Refuses new mounts from now on if there are none; returns whether that is so.
    func closeIfEmpty() -> Bool {
        state.withLock { state in
            if state.entries.isEmpty && state.detached.isEmpty { state.isClosed = true }
            return state.isClosed
        }
    }

    /// Refuses new mounts from now on; returns those that must be ended.
    func close() -> [Mount] {
        let detached = state.withLock { state in
            state.isClosed = true
            return Array(state.detached.values)
        }
        return all + detached
    }
}
