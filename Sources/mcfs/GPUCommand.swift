internal import ArgumentParser
internal import ControlAPI
internal import Daemon
internal import GPUCompat
internal import MCFSCore

struct GPUCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "gpu", abstract: "Show the GPUs of this host, as mounts see them.",
        discussion: """
            NVIDIA's are found through its driver's library (NVML), else in /proc and on the PCI bus; AMD's through the kernel
            driver (KFD). Says on standard error what could not be looked at.
            """)

    @OptionGroup var common: CommonOptions
    @OptionGroup var choice: GPUOptions

    func run() throws {
        let findings: GPUFindings
        if let specs = choice.specs, specs != ["auto"] {
            findings = GPUFindings(gpus: try GPUSpec.gpus(from: specs), problems: [])
        } else {
            findings = GPUProbe(of: .ofThisProcess).find(within: .seconds(10))
        }
        for problem in findings.problems { common.output.warn(problem) }
        let list = GPUList(gpus: findings.gpus.map(GPUList.GPU.init), problems: findings.problems)
        try common.output.result(list, text: Self.text(list))
    }

    private static func text(_ list: GPUList) -> String {
        if list.gpus.isEmpty { return "no GPU was found" }
        var table = Table([.right, .left, .left, .right, .left])
        for gpu in list.gpus {
            table.add(
                "\(gpu.index)", gpu.target, gpu.name, gpu.memoryBytes == 0 ? "-" : ByteSize.text(gpu.memoryBytes),
                [gpu.driver.map { "driver \($0)" }, gpu.cuda.map { "CUDA \($0)" }].compactMap { $0 }.joined(
                    separator: ", "))
        }
        return table.text
    }
}

extension GPUList.GPU {
    init(_ gpu: GPU) {
        self.init(
            index: gpu.index, vendor: gpu.vendor.rawValue, name: gpu.name, target: gpu.target, warpSize: gpu.warpSize,
            memoryBytes: gpu.memoryBytes, uuid: gpu.uuid, driver: gpu.driver, cuda: gpu.cudaVersion.map { "\($0)" })
    }
}

/// For which GPUs.
struct GPUOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Judge kernels by these GPUs instead of this host's: sm_90, gfx942, H100, MI300X, …; several with commas. none: judge nothing.",
            valueName: "spec"))
    var gpu: [String] = []

    /// nil where nothing was given.
    var specs: [String]? {
        let specs = gpu.flatMap { $0.split(separator: ",").map { $0.trimmingPrefix(" ").description } }
        return specs.isEmpty ? nil : specs
    }
}
