internal import CLinux
package import Glibc
package import MCFSCore

/// Something in the upper, by its name or by a descriptor that may be open for anything, also for nothing (`O_PATH`).
/// Every call is one system call or two, and follows no symbolic link.
package enum UpperObject: Sendable {
    case name([UInt8], in: OwnedDescriptor)
    case descriptor(OwnedDescriptor)

    package func status() throws(Errno) -> stat {
        var result = stat()
        switch self {
        case .name(let name, let folder):
            try call { fstatat(folder.rawValue, name.pointer($0), &result, AT_SYMLINK_NOFOLLOW) }
        case .descriptor(let descriptor):
            try call { _ in mcfs_stat_descriptor(descriptor.rawValue, &result) }
        }
        return result
    }

    package func open(_ flags: CInt) throws(Errno) -> OwnedDescriptor {
        var attempts = 0
        while true {
            do throws(Errno) {
                switch self {
                case .name(let name, let folder):
                    return try .open(bytes: name, at: folder, flags | O_NOFOLLOW)
                case .descriptor: return try .open(bytes: path, at: nil, flags)
                }
            } catch {
                // Another thread looks just now who holds the file for writing, by a lease of two system calls.
                attempts += 1
                guard error == .wouldBlock, attempts < 1000 else { throw error }
                // The kernel says nothing of the end of a lease to who asked not to wait.
                usleep(1000)
            }
        }
    }

    package func setPermissions(_ permissions: UInt16) throws(Errno) {
        switch self {
        case .name:
            // chmod(2) would follow a link that somebody put there.
            try UpperObject.descriptor(try open(mcfs_o_path)).setPermissions(permissions)
        case .descriptor: try call { chmod(path.pointer($0), mode_t(permissions)) }
        }
    }

    /// nil: stays.
    package func setOwner(_ uid: UInt32?, _ gid: UInt32?) throws(Errno) {
        let uid = uid ?? .max
        let gid = gid ?? .max
        switch self {
        case .name(let name, let folder):
            try call { fchownat(folder.rawValue, name.pointer($0), uid, gid, AT_SYMLINK_NOFOLLOW) }
        case .descriptor(let descriptor):
            try call { _ in fchownat(descriptor.rawValue, "", uid, gid, mcfs_at_empty_path) }
        }
    }

    /// `UTIME_NOW` and `UTIME_OMIT` stand in the nanoseconds, as in `utimensat(2)`.
    package func setTimes(accessed: timespec, modified: timespec) throws(Errno) {
        let times = [accessed, modified]
        switch self {
        case .name(let name, let folder):
            try call { utimensat(folder.rawValue, name.pointer($0), times, AT_SYMLINK_NOFOLLOW) }
        case .descriptor: try call { utimensat(AT_FDCWD, path.pointer($0), times, 0) }
        }
    }

    // MARK: Extended attributes

    package func extendedAttribute(_ name: [UInt8]) throws(Errno) -> [UInt8] {
        try grown { path, buffer in
            name.withTerminated { mcfs_getxattr(path, $0, buffer.baseAddress, buffer.count, follows) }
        }
    }

    /// Each ended by NUL.
    package func extendedAttributeNames() throws(Errno) -> [UInt8] {
        try grown { path, buffer in
            mcfs_listxattr(path, buffer.baseAddress?.assumingMemoryBound(to: CChar.self), buffer.count, follows)
        }
    }

    /// - Parameter flags: `XATTR_CREATE`, `XATTR_REPLACE`.
    package func setExtendedAttribute(
        _ name: [UInt8], _ value: UnsafeRawBufferPointer, flags: CInt = 0
    ) throws(Errno) {
        try call { scratch in
            name.withTerminated {
                mcfs_setxattr(path.pointer(scratch), $0, value.baseAddress, value.count, flags, follows)
            }
        }
    }

    package func removeExtendedAttribute(_ name: [UInt8]) throws(Errno) {
        try call { scratch in name.withTerminated { mcfs_removexattr(path.pointer(scratch), $0, follows) } }
    }

    package func linkTarget() throws(Errno) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = try buffer.withBytes { (buffer) throws(Errno) in
            try call { scratch in
                let start = buffer.baseAddress!.assumingMemoryBound(to: CChar.self)
                return switch self {
                case .name(let name, let folder):
                    readlinkat(folder.rawValue, name.pointer(scratch), start, buffer.count)
                case .descriptor(let descriptor): readlinkat(descriptor.rawValue, "", start, buffer.count)
                }
            }
        }
        return Array(buffer.prefix(count))
    }

    // MARK: Paths

    /// The magic link of a descriptor leads to the object itself; below the one of a folder stands the name.
    private var path: [UInt8] {
        switch self {
        case .name(let name, let folder): Array("/proc/self/fd/\(folder.rawValue)/".utf8) + name
        case .descriptor(let descriptor): Array("/proc/self/fd/\(descriptor.rawValue)".utf8)
        }
    }

    /// A magic link is followed, a link of the upper never.
    private var follows: CInt { if case .descriptor = self { 1 } else { 0 } }

    /// Calls again with more room while there is too little.
    private func grown(
        _ body: (UnsafePointer<CChar>, UnsafeMutableRawBufferPointer) -> Int
    ) throws(Errno) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: 256)
        while true {
            do throws(Errno) {
                let count = try buffer.withBytes { (buffer) throws(Errno) in
                    try call { body(path.pointer($0), buffer) }
                }
                return Array(buffer.prefix(count))
            } catch {
                guard error.rawValue == ERANGE, buffer.count < 1 << 20 else { throw error }
                buffer = [UInt8](repeating: 0, count: buffer.count * 8)
            }
        }
    }

    /// A system call that needs room for a terminated name or path.
    @discardableResult
    private func call<Result: SignedInteger>(
        _ body: (UnsafeMutablePointer<CChar>) -> Result
    ) throws(Errno) -> Result {
        try retryingOnInterrupt {
            withUnsafeTemporaryAllocation(of: CChar.self, capacity: 320) { body($0.baseAddress!) }
        }
    }
}

extension [UInt8] {
    /// Copies a name of at most 300 bytes to `scratch` and ends it.
    fileprivate func pointer(_ scratch: UnsafeMutablePointer<CChar>) -> UnsafePointer<CChar> {
        precondition(count < 320, "names and paths below /proc are short")
        for (index, byte) in enumerated() { scratch[index] = CChar(bitPattern: byte) }
        scratch[count] = 0
        return UnsafePointer(scratch)
    }

    package func withTerminated<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: count + 1) { body(pointer(terminating: $0)) }
    }

    private func pointer(terminating buffer: UnsafeMutableBufferPointer<CChar>) -> UnsafePointer<CChar> {
        for (index, byte) in enumerated() { buffer[index] = CChar(bitPattern: byte) }
        buffer[count] = 0
        return UnsafePointer(buffer.baseAddress!)
    }
}

extension OwnedDescriptor {
    package static func open(
        bytes name: [UInt8], at folder: OwnedDescriptor?, _ flags: CInt, mode: UInt16 = 0o600
    ) throws(Errno) -> OwnedDescriptor {
        OwnedDescriptor(
            owning: try retryingOnInterrupt {
                name.withTerminated { mcfs_openat(folder?.rawValue ?? AT_FDCWD, $0, flags | O_CLOEXEC, mode_t(mode)) }
            })
    }
}

/// renameat2(2).
func renameName(
    _ from: [UInt8], in fromFolder: OwnedDescriptor, to: [UInt8], in toFolder: OwnedDescriptor, flags: CUnsignedInt = 0
) throws(Errno) {
    _ = try retryingOnInterrupt {
        from.withTerminated { from in
            to.withTerminated { mcfs_renameat2(fromFolder.rawValue, from, toFolder.rawValue, $0, flags) }
        }
    }
}
