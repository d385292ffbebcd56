internal import ArgumentParser
internal import Glibc

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
        // Processes of one engine share tensors through /dev/shm.
        words += ["--ipc", "host"]
        for variable in ["MODEL_NAME=\(model)", "VLLM_CACHE_ROOT=\(cacheRoot)"] + variables {
            words += ["--env", variable]
        }
        return words + ["--volume", "\(directory):\(cacheRoot):Z", image]
    }

    private var deviceOptions: [String] {
        switch (devices, runtime) {
        // SELinux keeps containers from devices that CDI adds.
        case (.nvidia, .podman): ["--device", "nvidia.com/gpu=all", "--security-opt", "label=disable"]
        case (.nvidia, .docker): ["--gpus", "all"]
        // As AMD's documentation has it for ROCm in containers.
        case (.amd, _):
            [
                "--device", "/dev/kfd", "--device", "/dev/dri", "--group-add", Self.deviceGroup, "--cap-add",
                "SYS_PTRACE",
                "--security-opt", "seccomp=unconfined",
            ]
        }
    }

    /// Who may open /dev/kfd: by number, because the image need not know the name.
    private static var deviceGroup: String {
        var status = stat()
        return stat("/dev/kfd", &status) == 0 ? "\(status.st_gid)" : "render"
    }
}
