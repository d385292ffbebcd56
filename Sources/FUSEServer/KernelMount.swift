internal import CFUSE
internal import Glibc
internal import MCFSCore

/// A mount as the kernel lists it, and what can be done to it from outside of its FUSE session.
struct KernelMount: Sendable, Equatable {
    /// Absolute, without symbolic links.
    var mountpoint: String
    /// Among the mounts that are there now.
    var identifier: Int
    /// Device numbers: the minor one also names the connection in /sys/fs/fuse/connections.
    var major: UInt32
    var minor: UInt32

    enum UnmountOutcome: Equatable { case done, notMounted, busy, failed(Errno) }

    /// Finds the mount on top of `mountpoint` in the text of /proc/self/mountinfo.
    ///
    /// Asks the kernel's list instead of `stat`, which would ask the mount itself.
    init?(at mountpoint: String, mountinfo: String) {
        // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue (proc(5))
        var found: (Int, UInt32, UInt32)?
        for line in mountinfo.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count > 5, Self.unescape(fields[4]) == mountpoint else { continue }
            let numbers = fields[2].split(separator: ":")
            guard numbers.count == 2, let major = UInt32(numbers[0]), let minor = UInt32(numbers[1]),
                let identifier = Int(fields[0])
            else { continue }
            found = (identifier, major, minor)
        }
        guard let (identifier, major, minor) = found else { return nil }
        self.identifier = identifier
        self.mountpoint = mountpoint
        self.major = major
        self.minor = minor
    }

    /// Whether it is on top of its mountpoint.
    var isOnTop: Bool { KernelMount(at: mountpoint) == self }

    /// What `listed` has of it.
    var key: Substring { "\(identifier) \(major):\(minor)" }

    /// The mounts that the mount namespace of this process has now, by number and device: a number is used again.
    static func listed() -> Set<Substring> {
        var keys: Set<Substring> = []
        for line in (read("/proc/self/mountinfo") ?? "").split(separator: "\n") {
            let fields = line.split(separator: " ", maxSplits: 3)
            if fields.count == 4 { keys.insert(fields[0] + " " + fields[2]) }
        }
        return keys
    }

    init?(at mountpoint: String) {
        guard let text = Self.read("/proc/self/mountinfo") else { return nil }
        self.init(at: mountpoint, mountinfo: text)
    }

    /// Processes that have the mount besides its place here: one of each mount namespace that has it, and those with files open
    /// in it. What the process may not look at is left out.
    func holders() -> [Int32] {
        guard let own = Self.namespace(of: "self") else { return [] }
        let device = "\(major):\(minor)"
        var namespaces: Set<String> = [own]
        var found: [Int32] = []
        for process in Self.names(in: "/proc").compactMap({ Int32($0) }).sorted() where process != getpid() {
            if let namespace = Self.namespace(of: "\(process)"), namespaces.insert(namespace).inserted {
                let mounts = Self.read("/proc/\(process)/mountinfo") ?? ""
                if mounts.split(separator: "\n").contains(where: {
                    $0.split(separator: " ", maxSplits: 3).dropFirst(2).first == device[...]
                }) {
                    found.append(process)
                    continue
                }
            }
            let hasFile = Self.names(in: "/proc/\(process)/fdinfo").contains { name in
                Self.read("/proc/\(process)/fdinfo/\(name)")?.contains("mnt_id:\t\(identifier)\n") ?? false
            }
            if hasFile { found.append(process) }
        }
        return found
    }

    private static func namespace(of process: String) -> String? {
        var text = [CChar](repeating: 0, count: 64)
        let count = readlink("/proc/\(process)/ns/mnt", &text, text.count - 1)
        return count > 0 ? String(decoding: text.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
    }

    private static func names(in folder: String) -> [String] {
        guard let stream = opendir(folder) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
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
