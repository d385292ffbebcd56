internal import ArgumentParser
internal import ControlAPI
internal import GPUCompat
internal import Glibc
internal import Inventory
internal import MCFSCore

struct PruneCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prune", abstract: "Remove kernels from caches, or what of them no engine needs.",
        discussion: """
            Removes the text on the way to the binary from the entries of Triton's caches, unless told otherwise: every
            version of Triton since 3.0 finds these kernels as before. Looks at the folders themselves, and removes as any
            user would: on a mount through its upper. Can be run beside engines; what is being written stays. So does an entry
            with anything in it that is not known to be its own.
            """)

    @OptionGroup var common: CommonOptions
    @OptionGroup var options: KernelFilterOptions

    @Argument(
        help: ArgumentHelp("A folder or mountpoint (default: all folders of the inventory).", valueName: "folder"))
    var folder: String?

    @Flag(help: "Remove the text on the way to the binary only. This is the default.")
    var irOnly = false

    @Flag(help: "Remove whole kernels.")
    var full = false

    @Flag(help: "Of kernels of one cache folder that are equal in bytes remove all but one, whole.")
    var deduplicate = false

    @Flag(help: "Remove kernels that no GPU of this host can run, whole.")
    var incompatible = false

    @Option(
        help: ArgumentHelp("With --incompatible: these GPUs instead of this host's, such as sm_90.", valueName: "spec"))
    var gpu: [String] = []

    @Flag(help: "Show what would go and why, and remove nothing.")
    var dryRun = false

    @Flag(name: [.customShort("y"), .customLong("yes")], help: "Do not ask.")
    var yes = false

    func validate() throws {
        if [irOnly, full || deduplicate || incompatible].allSatisfy(\.self) {
            throw ValidationError("--ir-only excludes --full, --deduplicate and --incompatible.")
        }
        if deduplicate && incompatible { throw ValidationError("--deduplicate and --incompatible exclude each other.") }
        if !gpu.isEmpty && !incompatible { throw ValidationError("--gpu needs --incompatible.") }
    }

    func run() throws {
        let output = common.output
        let choice = try choice()
        let inventory = try KernelInventory.ofUser(output)
        let folders = try folders(inventory)
        for folder in folders { _ = try inventory.index(folder: folder) }
        try inventory.takeHits(from: Session(try common.configuration(), output))
        let plan = try PrunePlan(
            full || deduplicate || incompatible ? .full : .intermediates, of: choice, in: folders, options.filter,
            inventory: inventory)
        for reason in plan.kept.prefix(10) { output.warn(reason) }
        if dryRun || plan.items.isEmpty {
            return try output.result(PruneResult(plan, dryRun: dryRun), text: Self.text(plan))
        }
        if !yes {
            try Confirmation.ask(
                "\(Self.what(plan.extent, plan.items.count)), which frees \(ByteSize.text(plan.bytes))",
                for: "prune removes kernels")
        }
        let display = ProgressDisplay(output)
        let report = Pruner(plan).run { done in
            display.show(Progress(phase: "pruning", done: done, total: plan.bytes))
        }
        display.end()
        for folder in folders { _ = try inventory.index(folder: folder) }
        for reason in report.kept.prefix(10) { output.warn(reason) }
        try output.result(PruneResult(plan, report, dryRun: false), text: Self.text(plan, report))
        if let failure = report.failure {
            let code: MCFSError.Code =
                failure.rawValue == EACCES || failure.rawValue == EPERM ? .unauthorized : .localIO
            throw MCFSError(
                code, "\(count(report.kept.count, "kernel")) could not be pruned: \(failure)", cause: failure)
        }
    }

    private func choice() throws(MCFSError) -> PrunePlan.Choice {
        if deduplicate { return .duplicates }
        guard incompatible else { return .all }
        if !gpu.isEmpty { return .foreign(try GPUSpec.gpus(from: gpu)) }
        let findings = GPUProbe(environment: .ofThisProcess).find(within: .seconds(10))
        if findings.gpus.isEmpty || !findings.isComplete {
            let why = findings.problems.first.map { ": \($0)" } ?? ""
            throw MCFSError(
                .configuration,
                "which GPUs this host has is not \(findings.gpus.isEmpty ? "known" : "wholly known")\(why); name them with --gpu"
            )
        }
        return .foreign(findings.gpus)
    }

    private func folders(_ inventory: KernelInventory) throws(MCFSError) -> [String] {
        if let folder { return [try KernelPlace.folder(folder, for: "pruned")] }
        let roots = try inventory.roots().filter { !$0.isReference }.map(\.place)
        if roots.isEmpty { throw MCFSError(.usage, "nothing was indexed yet; name a folder") }
        return roots.filter { root in
            var status = stat()
            guard stat(root, &status) == 0 else {
                common.output.warn("\(root) is not there and is passed over")
                return false
            }
            let now = UserPath.canonical(root, relativeTo: "/")
            if now != root { common.output.warn("\(root) is \(now) now and is passed over; name it to prune it") }
            return now == root
        }
    }

    private static func what(_ extent: PrunePlan.Extent, _ number: Int) -> String {
        switch extent {
        case .intermediates: "remove the IR files of \(count(number, "kernel"))"
        case .full: "remove \(count(number, "whole kernel"))"
        }
    }

    private static func text(_ plan: PrunePlan) -> String {
        if plan.items.isEmpty { return plan.kept.isEmpty ? "no kernel matches" : stay(plan.kept.count) }
        var table = Table([.left, .left, .right, .left, .left])
        for item in plan.items {
            table.add(
                KernelListCommand.name(item.kernel), item.kernel.arch ?? "-",
                ByteSize.text(item.bytes), ListCommand.shown(item.kernel.pathText, isDirectory: false),
                ListCommand.shown(item.reason, isDirectory: false))
        }
        let kept = plan.kept.isEmpty ? "" : "\n" + stay(plan.kept.count)
        return table.text + "\nwould \(what(plan.extent, plan.items.count)), which frees \(ByteSize.text(plan.bytes))"
            + kept
    }

    private static func text(_ plan: PrunePlan, _ report: PruneReport) -> String {
        var lines = ["pruned \(count(report.kernels, "kernel")), freed \(ByteSize.text(report.bytesFreed))"]
        if report.beingWritten > 0 { lines.append("\(count(report.beingWritten, "kernel")) stay: being written") }
        let kept = plan.kept.count + report.kept.count
        if kept > 0 { lines.append(stay(kept)) }
        return lines.joined(separator: "\n")
    }

    private static func stay(_ number: Int) -> String { "\(count(number, "kernel")) stay\(number == 1 ? "s" : "")" }
}

/// `mcfs prune --json`.
private struct PruneResult: Encodable {
    struct Kernel: Encodable {
        var bytes: UInt64
        var name: String?
        var path: String
        /// Why it was to go.
        var reason: String
    }

    var beingWritten = 0
    var bytesFreed: UInt64 = 0
    var dryRun: Bool
    var extent: String
    var kept: [String] = []
    /// What was to go.
    var kernels: [Kernel]
    var pruned = 0

    init(_ plan: PrunePlan, _ report: PruneReport? = nil, dryRun: Bool) {
        self.dryRun = dryRun
        extent = plan.extent == .full ? "full" : "ir"
        kept = plan.kept
        kernels = plan.items.map {
            Kernel(bytes: $0.bytes, name: $0.kernel.name, path: $0.kernel.pathText, reason: $0.reason)
        }
        guard let report else { return }
        beingWritten = report.beingWritten
        bytesFreed = report.bytesFreed
        kept += report.kept
        pruned = report.kernels
    }
}
