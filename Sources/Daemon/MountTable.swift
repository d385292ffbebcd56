internal import ControlAPI
internal import MCFSCore
internal import Synchronization

/// The life of one mount, known before the mount is: two mounts at one place, one after the other, are two.
final class MountLife: Sendable {
    private let over = Guarded(false)

    var isOver: Bool { over.withLock { $0 } }

    func end() { over.update { $0 = true } }

    /// - Returns: false where `deadline` passed first.
    func waitForEnd(_ deadline: Deadline) -> Bool { over.wait(until: deadline) { $0 ? true : nil } ?? false }
}

/// The mounts of a daemon by mountpoint.
///
/// A mountpoint is reserved before a mount is made and given back if that fails, so two requests for the same place
/// never race and nothing half made is ever listed. A mount that is gone from its mountpoint while somebody still has it (open
/// files, another mount namespace) is detached: it has no place any more, and keeps the daemon alive until it ends. One
/// lock, held for dictionary operations only.
final class MountTable: Sendable {
    private enum Entry {
        case reserved(Job)
        case mounted(Mount)
    }

    private struct State {
        var entries: [String: Entry] = [:]
        var detached: [ObjectIdentifier: Mount] = [:]
        var isClosed = false
    }

    private let state = Guarded(State())
    /// How long a mount that is gone from its place, or one that was given up, may keep the place.
    private static let patience = Duration.seconds(5)

    /// In the order of their mountpoints.
    var all: [Mount] {
        state.withLock { state in
            state.entries.sorted { $0.key < $1.key }.compactMap {
                if case .mounted(let mount) = $0.value { mount } else { nil }
            }
        }
    }

    /// In the order of their mountpoints.
    var detached: [Mount] {
        state.withLock { $0.detached.values.sorted { $0.mountpoint < $1.mountpoint } }
    }

    var isEmpty: Bool { state.withLock { $0.entries.isEmpty && $0.detached.isEmpty } }

    /// Takes the place for a mount that `job` makes. Waits some seconds for one that was there and is just ending: umount(8)
    /// returns before the daemon hears of it.
    ///
    /// - Returns: the mount that is there by the daemon's own doing, of which the place was not taken; nil: it was.
    /// - Throws: `busy` where a mount is there or being made, `cancelled` where the daemon ends.
    func reserve(_ mountpoint: String, for job: Job) throws(MCFSError) -> Mount? {
        let deadline = Deadline(after: Self.patience)
        while true {
            switch try look(mountpoint, job) {
            case .taken: return nil
            case .there(let mount):
                if mount.isInPlace() {
                    if mount.isRestored { return mount }
                    throw MCFSError(
                        .busy,
                        "\(mountpoint) is mounted already; unmount it with 'mcfs umount \(mountpoint)' or give another mountpoint"
                    )
                }
                detach(mount)
                // Its upper is free when it has ended.
                _ = mount.life.waitForEnd(deadline)
            case .ending:
                if deadline.hasPassed { throw beingMade(mountpoint, nil) }
                let soon = Deadline(after: .milliseconds(100))
                state.wait(until: soon) { $0.entries[mountpoint] == nil ? () : nil }
            }
        }
    }

    /// Waits some seconds for what the daemon is just mounting again there.
    func waitWhileRestoring(_ mountpoint: String) {
        state.wait(until: Deadline(after: Self.patience)) { state -> Void? in
            if case .reserved(let job) = state.entries[mountpoint], job.kind == Job.restoring { nil } else { () }
        }
    }

    private enum Place {
        case taken
        case there(Mount)
        /// Being made by who will give it back, or have it mounted, soon.
        case ending
    }

    private func look(_ mountpoint: String, _ job: Job) throws(MCFSError) -> Place {
        try state.withLock { (state) throws(MCFSError) -> Place in
            if state.isClosed { throw MCFSError(.cancelled, "the daemon is ending", isTransient: true) }
            switch state.entries[mountpoint] {
            case nil:
                state.entries[mountpoint] = .reserved(job)
                return .taken
            case .mounted(let mount): return .there(mount)
            case .reserved(let other):
                guard other.isCancelled || other.kind == Job.restoring else { throw beingMade(mountpoint, other) }
                return .ending
            }
        }
    }

    private func beingMade(_ mountpoint: String, _ job: Job?) -> MCFSError {
        let phase = job.map { " (job \($0.id): \($0.status.progress.phase))" } ?? ""
        return MCFSError(
            .busy,
            "a mount at \(mountpoint) is being made\(phase); wait for it, give it up with 'mcfs umount \(mountpoint)', or give another mountpoint"
        )
    }

    /// Ends the making of a mount, and waits some seconds for that.
    /// - Returns: false where none is being made there.
    func giveUp(_ mountpoint: String) -> Bool {
        let job = state.withLock { state -> Job? in
            if case .reserved(let job) = state.entries[mountpoint] { job } else { nil }
        }
        guard let job else { return false }
        job.cancel()
        state.wait(until: Deadline(after: Self.patience)) { state -> Void? in
            if case .reserved(let other) = state.entries[mountpoint], other === job { nil } else { () }
        }
        return true
    }

    func giveBack(_ mountpoint: String) { state.update { $0.entries[mountpoint] = nil } }

    /// Lists a mount at its reserved place, unless it is gone already.
    func enter(_ mount: Mount) {
        state.update { $0.entries[mount.mountpoint] = mount.life.isOver ? nil : .mounted(mount) }
    }

    /// A mount ended, however that came. - Returns: the mount, and whether it was in its place until now; nil where it was
    /// not entered, or has left the table before.
    func ended(_ life: MountLife) -> (mount: Mount, wasListed: Bool)? {
        life.end()
        return state.update { state -> (mount: Mount, wasListed: Bool)? in
            if let mount = state.detached.values.first(where: { $0.life === life }) {
                state.detached[ObjectIdentifier(mount)] = nil
                return (mount, false)
            }
            for case (let place, .mounted(let mount)) in state.entries where mount.life === life {
                state.entries[place] = nil
                return (mount, true)
            }
            return nil
        }
    }

    /// Takes a mount off its place while it lives on. - Returns: whether it had the place.
    @discardableResult
    func detach(_ mount: Mount) -> Bool {
        state.update { state in
            guard case .mounted(let listed) = state.entries[mount.mountpoint], listed === mount else { return false }
            state.entries[mount.mountpoint] = nil
            if !mount.life.isOver { state.detached[ObjectIdentifier(mount)] = mount }
            return true
        }
    }

    func mount(at mountpoint: String) -> Mount? {
        state.withLock { if case .mounted(let mount) = $0.entries[mountpoint] { mount } else { nil } }
    }

    /// Whether a mount is being made there.
    func isReserved(_ mountpoint: String) -> Bool {
        state.withLock { if case .reserved = $0.entries[mountpoint] { true } else { false } }
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
