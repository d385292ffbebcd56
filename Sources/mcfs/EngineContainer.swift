internal import ArgumentParser
internal import Glibc
internal import MCFSCore

/// A container that runs an engine once, to fill a cache.
struct EngineContainer {
    enum Runtime: String, CaseIterable, ExpressibleByArgument { case podman, docker }
    enum Devices { case nvidia, amd }

    var runtime: Runtime
    var image: String
    var model: String
    var devices: Devices
    /// On this host, absolute.
    var directory: String
    /// In the container: `VLLM_CACHE_ROOT`.
    var cacheRoot: String
    /// More variables: `NAME=VALUE`, or a name whose value is this process's.
    var variables: [String]
    /// Whether somebody sits at a terminal.
    var isInteractive: Bool

    /// Images that take `MODEL_NAME`, load it, and end.
    static func defaultImage(_ devices: Devices) -> String {
        switch devices {
        case .nvidia: "quay.io/rh-ee-asangior/vllm-0.9.2-tcm-warm:0.0.2"
        case .amd: "quay.io/rh-ee-asangior/vllm-0.9.1-tcm-warm-rocm:0.0.1"
        }
    }

    var command: [String] {
        var words = [runtime.rawValue, "run", "--rm"]
        if isInteractive { words += ["--interactive", "--tty"] }
        words += deviceOptions
        for variable in ["MODEL_NAME=\(model)", "VLLM_CACHE_ROOT=\(cacheRoot)"] + variables {
            words += ["--env", variable]
        }
        return words + ["--volume", "\(directory):\(cacheRoot):Z", image]
    }

    private var deviceOptions: [String] {
        switch (devices, runtime) {
        // SELinux keeps containers from devices that CDI adds.
        case (.nvidia, .podman): ["--device", "nvidia.com/gpu=all", "--security-opt", "label=disable"]
        case (.nvidia, .docker): ["--gpus", "all", "--ipc", "host"]
        // As AMD's documentation has it for ROCm in containers.
        case (.amd, _):
            [
                "--device", "/dev/kfd", "--device", "/dev/dri", "--group-add", Self.deviceGroup, "--ipc", "host",
                "--cap-add", "SYS_PTRACE", "--security-opt", "seccomp=unconfined",
            ]
        }
    }

    /// Who may open /dev/kfd: by number, because the image need not know the name.
    private static var deviceGroup: String {
        var status = stat()
        return stat("/dev/kfd", &status) == 0 ? "\(status.st_gid)" : "render"
    }
}

/// Programs of the user's, found on PATH.
enum UserProgram {
    static func isOnPath(_ name: String, _ environment: Environment) -> Bool {
        (environment["PATH"] ?? "/usr/bin:/bin").split(separator: ":").contains { access("\($0)/\(name)", X_OK) == 0 }
    }

    /// Runs a program to its end; what it prints goes to standard error, because results are ours to print.
    ///
    /// - Returns: its exit status; 128 + signal where it was killed.
    static func run(_ words: [String], input: Bool) throws(MCFSError) -> CInt {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if !input { posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) }
        posix_spawn_file_actions_adddup2(&actions, 2, 1)
        var pointers: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        var process: pid_t = 0
        let code = withChildAttributes { posix_spawnp(&process, words[0], &actions, $0, &pointers, environ) }
        guard code == 0 else {
            throw MCFSError(.failed, "cannot run \(words[0]): \(Errno(rawValue: code))")
        }
        var status: CInt = 0
        do { _ = try retryingOnInterrupt { waitpid(process, &status, 0) } } catch {
            throw MCFSError(.failed, "cannot wait for \(words[0]): \(error)", cause: error)
        }
        return status & 0x7f == 0 ? status >> 8 & 0xff : 128 + status & 0x7f
    }

    /// As a shell reads it back.
    static func quoted(_ words: [String]) -> String {
        words.map { word in
            let isPlain =
                !word.isEmpty
                && word.utf8.allSatisfy { byte in
                    byte < 128 && (Character(Unicode.Scalar(byte)).isLetter || Character(Unicode.Scalar(byte)).isNumber)
                        || "-_./:=@%+,".utf8.contains(byte)
                }
            return isPlain ? word : "'" + word.replacing("'", with: "'\\''") + "'"
        }.joined(separator: " ")
    }
}
