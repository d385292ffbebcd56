internal import ArgumentParser
internal import ControlAPI
internal import MCFSCore

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Say which kernels of a reference this host can run.",
        discussion: """
            An image's labels answer where they suffice, before any layer is fetched; else the small files beside the kernels.
            Ends with 0 where nothing is incompatible, 10 where everything is, 11 in between.
            """)

    @OptionGroup var common: CommonOptions
    @OptionGroup var choice: GPUOptions

    @Argument(help: "A reference, a folder, or a path below a mountpoint.")
    var target: String

    func run() throws {
        let request = KernelRequest(
            target: try Target.text(target), gpu: choice.specs ?? ["auto"], caller: .ofThisProcess)
        let check: KernelCheck = try Session(try common.configuration(), common.output).call(
            "POST", "/v1/check", request)
        try common.output.result(check, text: Self.text(check, quiet: common.quiet))
        if check.incompatible > 0 {
            throw ExitCode(check.compatible == 0 && check.unknown == 0 ? 10 : 11)
        }
    }

    private static func text(_ check: KernelCheck, quiet: Bool) -> String {
        var lines: [String] = []
        if !quiet {
            var table = Table([.left, .left, .left, .left])
            for kernel in check.kernels {
                let place = ListCommand.shown(kernel.path, isDirectory: false)
                table.add(
                    kernel.verdict, kernel.target.isEmpty ? "-" : kernel.target,
                    kernel.name.isEmpty ? "-" : ListCommand.shown(kernel.name, isDirectory: false),
                    kernel.verdict == "compatible" ? place : place + (place.isEmpty ? "" : ": ") + kernel.reason)
            }
            if !check.kernels.isEmpty { lines.append(table.text) }
        }
        let gpus = check.gpu.isEmpty ? "no GPU" : check.gpu.joined(separator: ", ")
        lines.append(
            "\(count(check.entries, "kernel")) for \(gpus): \(check.compatible) compatible, \(check.incompatible) incompatible, \(check.unknown) unknown"
        )
        return lines.joined(separator: "\n")
    }
}
