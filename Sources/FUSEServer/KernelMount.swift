internal import CFUSE
internal import Glibc
internal import MCFSCore

/// A mount as the kernel lists it, and what can be done to it from outside of its FUSE session.
struct KernelMount: Sendable, Equatable {
    /// Absolute, without symbolic links.
    var mountpoint: String
    /// Device numbers: the minor one also names the connection in /sys/fs/fuse/connections.
    var major: UInt32
    var minor: UInt32

    enum UnmountOutcome: Equatable { case done, notMounted, busy, failed(Errno) }

    /// Finds the mount on top of `mountpoint` in the text of /proc/self/mountinfo.
    ///
    /// Asks the kernel's list instead of `stat`, which would ask the mount itself.
    init?(at mountpoint: String, mountinfo: String) {
        // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue (proc(5))
        var found: (UInt32, UInt32)?
        for line in mountinfo.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count > 5, Self.unescape(fields[4]) == mountpoint else { continue }
            let numbers = fields[2].split(separator: ":")
            guard numbers.count == 2, let major = UInt32(numbers[0]), let minor = UInt32(numbers[1]) else { continue }
            found = (major, minor)
        }
        guard let (major, minor) = found else { return nil }
        self.mountpoint = mountpoint
        self.major = major
        self.minor = minor
    }

    init?(at mountpoint: String) {
        guard let text = Self.read("/proc/self/mountinfo") else { return nil }
        self.init(at: mountpoint, mountinfo: text)
    }

    /// Lets the kernel read ahead `kibibytes`: it offers 128 KiB to FUSE whatever the server asks for. Needs root and a
    /// writable /sys. - Returns: whether it took it.
    func setReadAhead(kibibytes: Int) -> Bool {
        Self.write("\(kibibytes)\n", to: "/sys/class/bdi/\(major):\(minor)/read_ahead_kb")
    }

    /// Ends the connection: all requests fail, the server's loop ends. - Returns: false where the control file system
    /// is not mounted.
    func abort() -> Bool { Self.write("1\n", to: "/sys/fs/fuse/connections/\(minor)/abort") }

    /// As root by umount2(2), else by fusermount3.
    ///
    /// `force` ends the connection and takes the mountpoint away from under open files.
    static func unmount(_ mountpoint: String, force: Bool) -> UnmountOutcome {
        let result = force ? mcfs_unmount_force(mountpoint) : mcfs_unmount(mountpoint)
        if result == 0 { return .done }
        let error = Errno.current
        switch error.rawValue {
        case EINVAL, ENOENT: return .notMounted
        case EBUSY: return .busy
        case EPERM:
            let arguments = ["fusermount3", "-u"] + (force ? ["-z"] : []) + ["-q", "--", mountpoint]
            return run(arguments) ? .done : force ? .failed(error) : .busy
        default: return .failed(error)
        }
    }

    /// Runs a program to its end. - Returns: whether it exited with 0.
    private static func run(_ arguments: [String]) -> Bool {
        var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        guard let program = pointers.first ?? nil else { return false }
        pointers.append(nil)
        var child = pid_t()
        guard withChildAttributes({ posix_spawnp(&child, program, nil, $0, pointers, environ) }) == 0 else {
            return false
        }
        var status: CInt = 0
        do throws(Errno) {
            _ = try retryingOnInterrupt { waitpid(child, &status, 0) }
        } catch {
            return false
        }
        return status == 0
    }

    /// Spaces, tabs, line feeds and backslashes stand as three octal digits.
    private static func unescape(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\"), rest.count >= 3,
                let code = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8)
            {
                bytes.append(code)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Whether fusermount3 mounts with `allow_other` for those who are not root (fuse.conf(5)).
    static var usersMayAllowOthers: Bool {
        (read("/etc/fuse.conf") ?? "").split(separator: "\n").contains { line in
            line.prefix { $0 != "#" }.filter { !$0.isWhitespace } == "user_allow_other"
        }
    }

    private static func read(_ path: String) -> String? {
        do throws(Errno) {
            let file = try OwnedDescriptor.open(path, O_RDONLY)
            var bytes: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: 65536)
            while true {
                let count = try retryingOnInterrupt { Glibc.read(file.rawValue, &chunk, chunk.count) }
                if count == 0 { return String(decoding: bytes, as: UTF8.self) }
                bytes += chunk.prefix(count)
            }
        } catch {
            return nil
        }
    }

    private static func write(_ text: String, to path: String) -> Bool {
        do throws(Errno) {
            let file = try OwnedDescriptor.open(path, O_WRONLY)
            let bytes = Array(text.utf8)
            _ = try retryingOnInterrupt { Glibc.write(file.rawValue, bytes, bytes.count) }
            return true
        } catch {
            return false
        }
    }
}
