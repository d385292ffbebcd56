package import MCFSCore

/// Looks for the GPUs of this host: NVIDIA's through NVML, or in /proc/driver/nvidia and on the PCI bus where NVML does
/// not answer; AMD's in KFD's topology in sysfs. No library is linked, and no device is opened by us.
///
/// A card that AMD's driver shows as several partitions is one GPU here: its kernels are the same ones. A MIG instance
/// of NVIDIA's stands for itself, because CUDA gives a process no other part of that GPU.
///
/// `CUDA_VISIBLE_DEVICES`, `NVIDIA_VISIBLE_DEVICES` and their like are not applied: they choose for one process, while
/// what is found here serves every process that reads a mount. `HSA_XNACK` and `HSA_OVERRIDE_GFX_VERSION` change which
/// code runs at all, and are.
///
/// Keep one per process: it remembers what is stuck. Copies share that.
package struct GPUProbe: Sendable {
    private let nvml: Attempt<NVMLAnswer>
    private let driverFiles: Attempt<GPUFindings>
    private let kfd: Attempt<GPUFindings>

    /// - root: below it /proc, /sys, and the folders of `NVMLLibrary` are looked for.
    /// - nvmlLibrary: the library to load, instead of looking for `libnvidia-ml.so.1`.
    /// - environment: of the processes that will run the kernels, as far as it is known.
    package init(root: String = "/", nvmlLibrary: String? = nil, environment: Environment = Environment([:])) {
        let files = SystemFiles(root: root)
        nvml = Attempt("gpu-nvml") { NVMLQuery.ask(nvmlLibrary.map { [$0] } ?? NVMLLibrary.places(files)) }
        driverFiles = Attempt("gpu-nvidia") { NVIDIAFiles(files: files).find() }
        kfd = Attempt("gpu-kfd") { KFDTopology(files: files, environment: environment).find() }
    }

    /// Blocks the calling thread for at most about `limit`. A library or a driver that hangs costs this time once:
    /// until it answers it is not asked again, and each look says so.
    package func find(within limit: Duration) -> GPUFindings {
        let deadline = Deadline(after: limit)
        let asked = (nvml: nvml.ask(), files: driverFiles.ask(), kfd: kfd.ask())
        let nvidia = nvidia(asked.nvml, asked.files, deadline, limit)
        let amd =
            Self.wait(for: kfd, asked.kfd, deadline)
            ?? GPUFindings(problems: [Self.silence("AMD's driver", asked.kfd, limit)], isComplete: false)
        return nvidia + amd
    }

    private func nvidia(
        _ nvmlTicket: Int?, _ filesTicket: Int?, _ deadline: Deadline, _ limit: Duration
    ) -> GPUFindings {
        var problem: String?
        switch Self.wait(for: nvml, nvmlTicket, deadline) {
        case .found(let findings): return findings
        case .failed(let message): problem = message
        case .absent: break
        case nil: problem = Self.silence("NVML", nvmlTicket, limit)
        }
        var findings =
            Self.wait(for: driverFiles, filesTicket, deadline)
            ?? GPUFindings(problems: [Self.silence("NVIDIA's driver", filesTicket, limit)], isComplete: false)
        if problem == nil, findings.gpus.contains(where: { $0.driver != nil }) {
            problem =
                "NVIDIA's driver is loaded, but \(NVMLLibrary.name) is not found: what is known of its GPUs comes from "
                + "tables; in a container, ask for the capability utility"
        }
        findings.problems.insert(contentsOf: [problem].compactMap(\.self), at: 0)
        return findings
    }

    private static func wait<Answer>(for attempt: Attempt<Answer>, _ ticket: Int?, _ deadline: Deadline) -> Answer? {
        ticket.flatMap { attempt.answer(to: $0, until: deadline) }
    }

    private static func silence(_ who: String, _ ticket: Int?, _ limit: Duration) -> String {
        ticket == nil
            ? "\(who) has not answered an earlier question yet and is not asked again until it does"
            : "\(who) did not answer within \(limit.milliseconds) ms and is not waited for; dmesg may say why it hangs"
    }
}
