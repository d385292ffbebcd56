internal import CLinux
internal import Glibc
package import MCFSCore

/// A place in the file system where a mount goes.
package enum Mountpoint {
    package enum State: Sendable, Equatable {
        case missing
        case notDirectory
        /// A directory with nothing mounted on it.
        case free
        /// Something is mounted: a file system type such as `fuse.mcfs`.
        case mounted(type: String)
        /// A mount whose server is gone.
        case dead(type: String)
    }

    /// Looks without waiting for the server of what may be mounted there for longer than a `stat` and a `statvfs`.
    package static func state(of path: String) throws(MCFSError) -> State {
        let mounted = try mountType(of: path)
        var status = stat()
        if stat(path, &status) != 0 {
            let error = Errno.current
            if error == .notConnected || (mounted != nil && error.rawValue == ECONNABORTED) {
                return .dead(type: mounted ?? "fuse")
            }
            if error == .noEntry || error.rawValue == ENOTDIR { return .missing }
            if let mounted { return .mounted(type: mounted) }
            throw MCFSError(.cannotCreate, "cannot use \(path) as a mountpoint: \(error)", cause: error)
        }
        if let mounted {
            // The kernel may answer stat from what it cached of a server that is gone; statvfs asks the server.
            var usage = statvfs()
            if isOurs(mounted), statvfs(path, &usage) != 0, Errno.current == .notConnected {
                return .dead(type: mounted)
            }
            return .mounted(type: mounted)
        }
        return status.st_mode & S_IFMT == S_IFDIR ? .free : .notDirectory
    }

    /// Makes sure that something can be mounted on `path`; a mount that a killed daemon left dead is taken away.
    ///
    /// - Parameter path: without symbolic links.
    /// - Returns: the directory there, which is the mountpoint whatever is made of its name later, and whether a dead mount was on it.
    /// - Throws: `notFound`, `cannotCreate` (no directory), `busy` (mounted already).
    static func prepare(_ path: String) throws(MCFSError) -> (directory: OwnedDescriptor, wasDead: Bool) {
        let wasDead = try clear(path)
        do throws(Errno) {
            return (try OwnedDescriptor.open(path, mcfs_o_path | O_DIRECTORY | O_NOFOLLOW), wasDead)
        } catch {
            throw MCFSError(
                .cannotCreate, "cannot use \(path) as a mountpoint: \(error); give a directory that is no link",
                cause: error)
        }
    }

    private static func clear(_ path: String) throws(MCFSError) -> Bool {
        switch try state(of: path) {
        case .free: return false
        case .missing:
            throw MCFSError(.notFound, "the mountpoint \(path) does not exist; make it with mkdir first")
        case .notDirectory:
            throw MCFSError(.cannotCreate, "the mountpoint \(path) is not a directory; give a directory")
        case .mounted(let type):
            throw MCFSError(
                .busy,
                "\(path) is mounted already (\(type)); unmount it with 'mcfs umount \(path)' or give another mountpoint"
            )
        case .dead(let type):
            guard isOurs(type) else {
                throw MCFSError(
                    .busy,
                    "a dead mount of another program (\(type)) is at \(path); take it away with 'umount -l \(path)'")
            }
            try detach(path, flags: CInt(MNT_DETACH))
            guard try state(of: path) == .free else {
                throw MCFSError(.busy, "the dead mount at \(path) could not be taken away; use 'umount -l \(path)'")
            }
            return true
        }
    }

    /// Whether a file system type is one that mcfs mounts.
    package static func isOurs(_ type: String) -> Bool { type == "fuse.mcfs" || type == "fuse" }

    /// `umount2`, or `fusermount3` for who may not call it.
    ///
    /// - Throws: `busy` where files are open and no flag says to go on; `notFound` where nothing is mounted.
    package static func detach(_ path: String, flags: CInt) throws(MCFSError) {
        if umount2(path, flags) == 0 { return }
        let error = Errno.current
        switch error.rawValue {
        case EPERM:
            try detachAsUser(path, lazy: flags != 0)
        case EBUSY:
            throw MCFSError(
                .busy,
                "\(path) is in use; close what is open there, or use --lazy (goes when the last file is closed) or --force"
            )
        case EINVAL, ENOENT:
            throw MCFSError(.notFound, "nothing is mounted at \(path)")
        default:
            throw MCFSError(localIO: "unmount \(path)", error)
        }
    }

    private static func detachAsUser(_ path: String, lazy: Bool) throws(MCFSError) {
        let arguments = ["fusermount3", "-u"] + (lazy ? ["-z"] : []) + ["-q", "--", path]
        guard try ChildProcess.run(arguments) == 0 else {
            throw MCFSError(.busy, "fusermount3 could not unmount \(path); close what is open there or use --lazy")
        }
    }

    /// Whether the mount namespace of this process has something mounted at `path`. Asks no server.
    package static func isMounted(_ path: String) throws(MCFSError) -> Bool { try mountType(of: path) != nil }

    // MARK: /proc/self/mountinfo

    /// The type of the uppermost mount at exactly `path`; nil where nothing is mounted there.
    static func mountType(of path: String) throws(MCFSError) -> String? {
        do {
            return mountType(of: path, inMountinfo: try SmallFile.read("/proc/self/mountinfo", bytesMax: 64 << 20))
        } catch {
            throw MCFSError(localIO: "read /proc/self/mountinfo", error)
        }
    }

    /// Fields: id parent major:minor root mountpoint options optional… - type source options (proc(5)).
    static func mountType(of path: String, inMountinfo bytes: [UInt8]) -> String? {
        var result: String?
        for line in bytes.split(separator: UInt8(ascii: "\n")) {
            let fields = line.split(separator: UInt8(ascii: " "))
            guard fields.count > 6, unescaped(fields[4]).elementsEqual(path.utf8),
                let separator = fields.firstIndex(where: { $0.elementsEqual("-".utf8) }), separator + 1 < fields.count
            else { continue }
            result = String(decoding: fields[separator + 1], as: UTF8.self)
        }
        return result
    }

    /// The kernel writes space, tab, newline and backslash as three octal digits.
    private static func unescaped(_ field: ArraySlice<UInt8>) -> [UInt8] {
        var result: [UInt8] = []
        var rest = field
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\"), rest.count >= 3,
                let code = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8)
            {
                result.append(code)
                rest = rest.dropFirst(3)
            } else {
                result.append(byte)
            }
        }
        return result
    }
}
