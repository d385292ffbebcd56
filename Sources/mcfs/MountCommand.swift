internal import ArgumentParser
internal import ControlAPI
internal import Daemon
internal import MCFSCore

extension PrefetchMode: ExpressibleByArgument {}

struct MountCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mount",
        abstract: "Mount references at a directory.",
        discussion: """
            Returns once the tree is there and can be read; bytes are fetched when they are read. Where several
            references have the same name, the later one wins; folders merge. What is written goes to the directory that
            the mountpoint is, or to --upper, as plain files that are there without the mount, too. The daemon of the
            cache directory is started if it does not run.
            """)

    @OptionGroup var common: CommonOptions
    @OptionGroup var choice: GPUOptions

    @Argument(
        help: ArgumentHelp(
            "One or more references, then the directory to mount at.", valueName: "reference… mountpoint"))
    var places: [String]

    @Option(
        help: ArgumentHelp(
            "Where what is written goes (default: the directory that the mountpoint already is).",
            valueName: "directory"))
    var upper: String?

    @Flag(help: "Refuse writes.")
    var readOnly = false

    @Option(help: "Fetch ahead of reads: none, auto (files of up to 1 MiB), or all.")
    var prefetch: PrefetchMode = .none

    @Option(
        help: ArgumentHelp(
            "Which path engines find in a cache's own lists of its files: auto (the mountpoint), none (as they are stored), or the directory where they see the mount.",
            valueName: "path"))
    var rebase = "auto"

    @Flag(help: "Leave intermediate files (.ttir, .ptx, …) out of Triton's lists of files: engines then read less.")
    var slim = false

    @Flag(help: "Never use the network: only what is local can be read.")
    var offline = false

    @Flag(help: "Run the daemon in this process, until the mount is unmounted or SIGTERM comes.")
    var foreground = false

    @Flag(help: "Let other users see the mount.")
    var allowOther = false

    @Option(help: ArgumentHelp("What the table of mounts shows as the device.", valueName: "name", visibility: .hidden))
    var fsname: String?

    @Option(help: ArgumentHelp("An option of the kernel's, as noexec.", valueName: "option", visibility: .hidden))
    var kernelOption: [String] = []

    @Option(help: ArgumentHelp("Most bytes that the cache keeps, such as 50GiB.", valueName: "size"))
    var cacheSize: SizeArgument?

    @Option(help: ArgumentHelp("Seconds after which a read that cannot be answered fails.", valueName: "seconds"))
    var readDeadline: Double?

    func validate() throws {
        if places.count < 2 { throw ValidationError("Give at least one reference and a mountpoint.") }
        if readOnly, upper != nil { throw ValidationError("--read-only and --upper exclude each other.") }
        if rebase != "auto", rebase != "none", !rebase.hasPrefix("/") {
            throw ValidationError("--rebase needs auto, none or an absolute path.")
        }
        if let readDeadline, !(readDeadline > 0) {
            throw ValidationError("--read-deadline needs a number of seconds above 0.")
        }
    }

    func run() throws {
        var settings: [Configuration.Key: Configuration.Setting] = [:]
        if let cacheSize { settings[.cacheSize] = .init("\(cacheSize.bytes)", place: "--cache-size") }
        if let readDeadline { settings[.readDeadline] = .init("\(readDeadline)", place: "--read-deadline") }
        let configuration = try common.configuration(settings)
        let request = try request()
        if foreground { return try ForegroundDaemon(configuration, common.output).run(request) }
        let status = try Session(configuration, common.output).call(
            "POST", "/v1/mounts", request, returning: MountStatus.self, settings: settings.values.map(\.place).sorted())
        try print(status)
    }

    private func request() throws(MCFSError) -> MountRequest {
        let caller = Caller.ofThisProcess
        var view = ViewRequest()
        view.gpu = choice.specs ?? ["auto"]
        view.rebase = rebase
        view.slim = slim
        return MountRequest(
            references: Array(places.dropLast()),
            mountpoint: UserPath.canonical(places[places.count - 1], relativeTo: caller.workingDirectory),
            prefetch: prefetch, offline: offline, allowOther: allowOther,
            readOnly: readOnly, upper: upper.map { UserPath.canonical($0, relativeTo: caller.workingDirectory) },
            fsname: fsname, kernelOptions: kernelOption, view: view, caller: caller)
    }

    private func print(_ status: MountStatus) throws(MCFSError) {
        let entries = status.references.reduce(0) { $0 + $1.entries }
        let total = ByteSize.text(status.references.clampedSum(\.bytesTotal))
        let isCounted = status.references.allSatisfy { $0.bytesLocal != nil }
        let local = ByteSize.text(status.references.clampedSum { $0.bytesLocal ?? 0 })
        try common.output.result(
            status,
            text: common.quiet
                ? ""
                : "\(status.mountpoint): \(count(entries, "entry", plural: "entries")), \(total)"
                    + (isCounted ? ", \(local) local" : ""))
    }
}
