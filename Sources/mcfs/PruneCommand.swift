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
            user would: on a mount through its upper. Can be run beside engines; what is being written stays. So does what is
            not known to be a kernel's own, and a kernel of which it is not known what it was built for.
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

    /// Of the reasons why kernels stay; more would hide the result.
    private static let namedMax = 10

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
        let session = Session(try common.configuration(), output)
        try inventory.takeHits(from: session)
        let uppers = uppers(session)
        let plan = try PrunePlan(
            full || deduplicate || incompatible ? .full : .intermediates, of: choice, in: folders, options.filter,
            inventory: inventory, mountpoints: uppers.keys.sorted())
        warn(plan.kept + plan.keptInPart)
        if dryRun || plan.items.isEmpty {
            return try output.result(PruneResult(plan, dryRun: dryRun), text: Self.text(plan))
        }
        if !yes {
            let frees =
                plan.bytesOnMounts == plan.bytes
                ? "" : ", which frees \(ByteSize.text(plan.bytes - plan.bytesOnMounts))"
            try Confirmation.ask(
                Self.what(plan.extent, plan.items.count) + frees, for: "prune removes kernels")
        }
        let display = ProgressDisplay(output)
        var report = Pruner(plan).run { done in
            display.show(Progress(phase: "pruning", done: done, total: plan.bytes))
        }
        display.end()
        if report.hidden > 0 {
            // What the tree has stays in the cache; what was written went from the upper.
            let after = self.uppers(session)
            for (mountpoint, before) in uppers {
                let after = after[mountpoint] ?? before
                report.bytesFreed.addClamped(before > after ? before - after : 0)
            }
        }
        for folder in folders { _ = try inventory.index(folder: folder) }
        warn(report.kept)
        try output.result(PruneResult(plan, report, dryRun: false), text: Self.text(plan, report))
        if let failure = report.failure {
            let code: MCFSError.Code =
                failure.rawValue == EACCES || failure.rawValue == EPERM ? .unauthorized : .localIO
            throw MCFSError(
                code, "\(count(report.kept.count, "kernel")) could not be pruned: \(failure)", cause: failure)
        }
    }

    private func warn(_ reasons: [String]) {
        for reason in reasons.prefix(Self.namedMax) { common.output.warn(reason) }
        let rest = reasons.count - Self.namedMax
        if rest > 0 { common.output.warn("and \(rest) more (--json lists all)") }
    }

    /// Bytes in the upper of each mount of the daemon, by mountpoint. None where no daemon runs, or it does not answer.
    private func uppers(_ session: Session) -> [String: UInt64] {
        guard let status = try? session.runningClient?.status() else { return [:] }
        return Dictionary(
            status.mounts.map { ($0.mountpoint, $0.upperBytes ?? 0) }, uniquingKeysWith: { first, _ in first })
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
        if let folder {
            let folder = try KernelPlace.folder(folder, for: "pruned")
            if Self.isReadOnly(folder) {
                throw MCFSError(
                    .localIO, "nothing can be removed from \(folder), which is read-only; \(Self.remedy)",
                    cause: Errno(rawValue: EROFS))
            }
            return [folder]
        }
        let roots = try inventory.roots().filter { !$0.isReference }.map(\.place)
        if roots.isEmpty { throw MCFSError(.usage, "nothing was indexed yet; name a folder") }
        return roots.filter { root in
            var status = stat()
            guard stat(root, &status) == 0 else {
                common.output.warn("\(root) is not there and is passed over")
                return false
            }
            let now = UserPath.canonical(root, relativeTo: "/")
            if now != root {
                common.output.warn("\(root) is \(now) now and is passed over; name it to prune it")
                return false
            }
            if Self.isReadOnly(root) { common.output.warn("\(root) is read-only and is passed over; \(Self.remedy)") }
            return !Self.isReadOnly(root)
        }
    }

    private static func isReadOnly(_ folder: String) -> Bool {
        var status = statvfs()
        return statvfs(folder, &status) == 0 && status.f_flag & UInt(ST_RDONLY) != 0
    }

    private static let remedy = "mount it without --read-only, or prune the folder that it shows"

    private static func what(_ extent: PrunePlan.Extent, _ number: Int) -> String {
        switch extent {
        case .intermediates: "remove the IR files of \(count(number, "kernel"))"
        case .full: "remove \(count(number, "whole kernel"))"
        }
    }

    private static func text(_ plan: PrunePlan) -> String {
        var lines: [String] = []
        if !plan.items.isEmpty {
            var table = Table([.left, .left, .right, .left, .left])
            for item in plan.items {
                table.add(
                    KernelListCommand.name(item.kernel), item.kernel.arch ?? "-",
                    ByteSize.text(item.bytes), ListCommand.shown(item.kernel.pathText, isDirectory: false),
                    ListCommand.shown(item.reason, isDirectory: false))
            }
            lines.append(table.text)
            let onMounts = plan.items.count(where: \.isOnMount)
            let freed = ByteSize.text(plan.bytes - plan.bytesOnMounts)
            lines.append(
                "would \(what(plan.extent, plan.items.count))"
                    + (onMounts == plan.items.count ? "" : ", which frees \(freed)"))
            if onMounts > 0 {
                lines.append(
                    "\(onMounts) of them on a mount, where they are hidden: freed is only what was written to the upper"
                )
            }
        }
        lines += staying(plan, beingWritten: plan.beingWritten, kept: plan.kept.count)
        return lines.isEmpty ? "no kernel matches" : lines.joined(separator: "\n")
    }

    private static func text(_ plan: PrunePlan, _ report: PruneReport) -> String {
        var first = "pruned \(count(report.kernels, "kernel")), freed \(ByteSize.text(report.bytesFreed))"
        if report.hidden > 0 {
            let verb = report.hidden == 1 ? "is" : "are"
            first += "; \(report.hidden) of them \(verb) hidden on a mount, and the tree's bytes stay in the cache"
        }
        let kept = plan.kept.count + report.kept.count
        return ([first] + staying(plan, beingWritten: report.beingWritten, kept: kept)).joined(separator: "\n")
    }

    private static func staying(_ plan: PrunePlan, beingWritten: Int, kept: Int) -> [String] {
        [(beingWritten, ": being written"), (kept, "")].filter { $0.0 > 0 }.map { number, why in
            "\(count(number, "kernel")) stay\(number == 1 ? "s" : "")\(why)"
        } + (plan.keptInPart.isEmpty ? [] : ["of \(count(plan.keptInPart.count, "kernel")) a part stays"])
    }
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
    /// Of those that were pruned, how many lie on mounts.
    var hidden = 0
    /// Why others stay, or a part of these.
    var kept: [String] = []
    /// What was to go.
    var kernels: [Kernel]
    var pruned = 0

    init(_ plan: PrunePlan, _ report: PruneReport? = nil, dryRun: Bool) {
        self.dryRun = dryRun
        extent = plan.extent == .full ? "full" : "ir"
        beingWritten = plan.beingWritten
        kept = plan.kept + plan.keptInPart
        kernels = plan.items.map {
            Kernel(bytes: $0.bytes, name: $0.kernel.name, path: $0.kernel.pathText, reason: $0.reason)
        }
        guard let report else { return }
        beingWritten = report.beingWritten
        bytesFreed = report.bytesFreed
        hidden = report.hidden
        kept += report.kept
        pruned = report.kernels
    }
}
