internal import ControlAPI
internal import FUSEServer
internal import Glibc
internal import MCFSCore
internal import MountFS
internal import Synchronization
internal import Upper

extension Mount {
    /// How often, and after how long, it is looked whether a file was closed: the kernel says so a moment later than to who
    /// closes it.
    private static let looksAtOpenFiles = 10
    private static let pause: UInt32 = 50_000

    /// - Throws: `usage` for a mount that is read-only; `notFound` for a path that nothing is at; `busy` where a file is open
    ///   that has to make way.
    func resetUpper(_ request: UpperResetRequest) throws(MCFSError) -> UpperReset {
        let overlay = try overlay()
        let path: TreePath
        do { path = try TreePath(request.path) } catch { throw MCFSError(.usage, error.message) }
        var done = Overlay.Reset()
        do throws(Errno) {
            try check(path, in: overlay)
            if request.dryRun {
                done.removed = try overlay.written(at: path)
            } else {
                done = try reset(path, in: overlay, dropsWritten: request.all)
            }
        } catch {
            if error == .noEntry { throw missing(path, in: overlay) }
            throw MCFSError(localIO: "change the upper \(overlay.upper.path)", error)
        }
        if let open = done.open.first {
            let others = done.open.count == 1 ? "" : " and \(done.open.count - 1) more"
            throw MCFSError(
                .busy,
                "\(open)\(others) in \(mountpoint) cannot go back to the tree while what was written is open; close it, and repeat"
            )
        }
        return UpperReset(
            mountpoint: mountpoint, path: path.description, reset: done.forgotten, files: done.removed.files,
            folders: done.removed.folders, bytes: done.removed.bytes)
    }

    private func reset(_ path: TreePath, in overlay: Overlay, dropsWritten: Bool) throws(Errno) -> Overlay.Reset {
        var sum = Overlay.Reset()
        for look in 1...Self.looksAtOpenFiles {
            var reset = Overlay.Reset()
            let session = session.withLock { $0 }
            try overlay.reset(at: path, dropsWritten: dropsWritten, &reset) { session?.forget($0.names, $0.nodes) }
            sum.add(reset)
            if reset.open.isEmpty { break }
            if look < Self.looksAtOpenFiles { usleep(Self.pause) }
        }
        return sum
    }

    private func check(_ path: TreePath, in overlay: Overlay) throws(Errno) {
        if path.isRoot || overlay.upper.marks.keys.contains(where: { $0.removing(prefix: path) != nil }) { return }
        switch try overlay.shown(at: path) {
        case .upper, .tree, .hidden: return
        case .removed, .nothing: throw .noEntry
        }
    }

    private func missing(_ path: TreePath, in overlay: Overlay) -> MCFSError {
        let marks = overlay.upper.marks
        var above = path
        while !above.isRoot {
            above = above.parent
            if marks[above] == .whiteout {
                return MCFSError(
                    .notFound,
                    "there is no '\(path)' in the mount at \(mountpoint): '\(above)' was removed or moved; reset that")
            }
        }
        return MCFSError(.notFound, "there is no '\(path)' in the mount at \(mountpoint)")
    }
}

extension Overlay.Reset {
    /// What is open is what is open now.
    fileprivate mutating func add(_ other: Self) {
        forgotten += other.forgotten
        removed.files += other.removed.files
        removed.folders += other.removed.folders
        removed.bytes.addClamped(other.removed.bytes)
        open = other.open
    }
}
