internal import ArgumentParser
internal import ControlAPI
internal import Inventory
internal import KernelCaches
internal import MCFSCore

struct KernelListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List the kernels of the inventory.",
        discussion: """
            As of the last 'mcfs index'; hits as of now where a daemon runs. A kernel is as old as its directory; its size is
            that of all its files.
            """)

    @OptionGroup var common: CommonOptions
    @OptionGroup var options: KernelFilterOptions

    @Argument(
        help: ArgumentHelp("Only what is in this folder, mountpoint or reference.", valueName: "folder|reference"))
    var place: String?

    @Option(help: "name, arch, path, size (largest first), age (youngest first), or hits (most first).")
    var sort: KernelOrder = .name

    func run() throws {
        let output = common.output
        let inventory = try KernelInventory.ofUser(output)
        try inventory.takeHits(from: Session(try common.configuration(), output))
        var filter = options.filter
        filter.place = try place.map { try KernelPlace($0).text }
        let kernels = try inventory.kernels(matching: filter, sortedBy: sort)
        let roots = try inventory.roots()
        if roots.isEmpty { output.warn("nothing was indexed yet; see 'mcfs index --help'") }
        output.result(document: KernelDocument(kernels, roots).bytes, text: Self.table(kernels, now: .now))
    }

    /// Of what has no name its kind, where that says more than nothing.
    static func name(_ kernel: IndexedKernel) -> String {
        ListCommand.shown(
            kernel.name ?? (kernel.kind == .triton ? "unknown" : kernel.kind.rawValue), isDirectory: false)
    }

    private static func table(_ kernels: [IndexedKernel], now: Timestamp) -> String {
        var table = Table([.left, .left, .left, .left, .right, .right, .right, .left])
        table.add("NAME", "BACKEND", "ARCH", "TRITON", "SIZE", "AGE", "HITS", "PATH")
        var bytes: UInt64 = 0
        for kernel in kernels {
            bytes.addClamped(kernel.bytes)
            table.add(
                Self.name(kernel), kernel.backend ?? "-",
                kernel.arch ?? "-", kernel.tritonVersion ?? "-", ByteSize.text(kernel.bytes),
                kernel.age(at: now.seconds).description, "\(kernel.hits)",
                ListCommand.shown(kernel.pathText, isDirectory: false))
        }
        let summary = "\(count(kernels.count, "kernel")), \(ByteSize.text(bytes))"
        return kernels.isEmpty ? summary : table.text + "\n" + summary
    }
}
