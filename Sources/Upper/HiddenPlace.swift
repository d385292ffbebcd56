internal import Glibc
internal import MCFSCore
internal import Synchronization

/// The directory at the upper's root that the mount does not show. It comes to be when there is something to remember.
final class HiddenPlace: Sendable {
    private struct State {
        var directory: OwnedDescriptor?
        var work: OwnedDescriptor?
    }

    private static let workName = Array("work".utf8)
    private let root: OwnedDescriptor
    private let state = Lock(State())

    init(root: OwnedDescriptor) { self.root = root }

    func existing() throws(MCFSError) -> OwnedDescriptor? {
        do throws(Errno) {
            return try OwnedDescriptor.open(
                bytes: UpperDirectory.hiddenName, at: root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        } catch {
            if error == .noEntry { return nil }
            throw MCFSError(localIO: "open .mcfs-upper of the upper", error)
        }
    }

    func directory() throws(Errno) -> OwnedDescriptor {
        try state.withLock { state throws(Errno) in try Self.directory(&state, root) }
    }

    private static func directory(_ state: inout State, _ root: OwnedDescriptor) throws(Errno) -> OwnedDescriptor {
        if let known = state.directory { return known }
        let made = try make(UpperDirectory.hiddenName, in: root)
        state.directory = made
        return made
    }

    /// Where things are made before they are put to their place.
    func work() throws(Errno) -> OwnedDescriptor {
        try state.withLock { state throws(Errno) in
            if let known = state.work { return known }
            let made = try Self.make(Self.workName, in: try Self.directory(&state, root))
            state.work = made
            return made
        }
    }

    private static func make(_ name: [UInt8], in parent: OwnedDescriptor) throws(Errno) -> OwnedDescriptor {
        if name.withTerminated({ mkdirat(parent.rawValue, $0, 0o700) }) != 0, Errno.current != .exists {
            throw .current
        }
        let made = try OwnedDescriptor.open(bytes: name, at: parent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        // What is made in it must get nothing from where it stands.
        let object = UpperObject.descriptor(made)
        for list in ["default", "access"] {
            try? object.removeExtendedAttribute(Array("system.posix_acl_\(list)".utf8))
        }
        try? object.setPermissions(0o700)
        return made
    }

    /// Removes what an earlier mount did not finish.
    static func clearWork(in place: OwnedDescriptor) {
        guard let work = try? OwnedDescriptor.open(bytes: workName, at: place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW),
            let names = try? UpperDirectory.entries(work).map(\.name)
        else { return }
        for name in names {
            _ = name.withTerminated { unlinkat(work.rawValue, $0, 0) }
            _ = name.withTerminated { unlinkat(work.rawValue, $0, AT_REMOVEDIR) }
        }
    }

    /// Only what holds nothing but an empty log and an empty work place goes.
    func remove() {
        guard let directory = try? existing() else { return }
        state.withLock { $0 = State() }
        _ = ChangeLog.name.withTerminated { unlinkat(directory.rawValue, $0, 0) }
        _ = Self.workName.withTerminated { unlinkat(directory.rawValue, $0, AT_REMOVEDIR) }
        _ = UpperDirectory.hiddenName.withTerminated { unlinkat(root.rawValue, $0, AT_REMOVEDIR) }
    }
}
