internal import Glibc
internal import MCFSCore

/// Short programs that are run to their end.
enum ChildProcess {
    /// Runs a program found on PATH, without input and output; returns its exit status (128 + signal where it was killed).
    static func run(_ arguments: [String]) throws(MCFSError) -> CInt {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        for descriptor in CInt(0)...2 {
            posix_spawn_file_actions_addopen(
                &actions, descriptor, "/dev/null", descriptor == 0 ? O_RDONLY : O_WRONLY, 0)
        }
        var process: pid_t = 0
        let code = CStrings(arguments).withPointers { pointers in
            withChildAttributes { posix_spawnp(&process, arguments[0], &actions, $0, pointers, environ) }
        }
        guard code == 0 else {
            throw MCFSError(.failed, "cannot run \(arguments[0]): \(Errno(rawValue: code)); install it (Debian: fuse3)")
        }
        return wait(for: process)
    }

    static func wait(for process: pid_t) -> CInt {
        var status: CInt = 0
        do { _ = try retryingOnInterrupt { waitpid(process, &status, 0) } } catch { return 1 }
        return decode(status)
    }

    static func decode(_ status: CInt) -> CInt {
        let signal = status & 0x7f
        return signal == 0 ? (status >> 8) & 0xff : 128 + signal
    }
}

/// A NULL-terminated array of C strings for exec.
struct CStrings {
    let strings: [String]

    init(_ strings: [String]) { self.strings = strings }

    func withPointers<R>(_ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> R) -> R {
        var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) }
        pointers.append(nil)
        defer { for pointer in pointers { free(pointer) } }
        return pointers.withUnsafeBufferPointer { body($0.baseAddress!) }
    }
}
