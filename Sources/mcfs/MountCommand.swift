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
    var places: [String] = []

    @Flag(help: "Mount again what was mounted when the daemon ended.")
    var all = false

    @Option(
        help: ArgumentHelp(
            "Where what is written goes (default: the directory that the mountpoint already is).",
            valueName: "directory"))
    var upper: String?

    @Flag(help: "Refuse writes. With --upper, what is in that shows over the tree; without, nothing does.")
    var readOnly = false

    @Flag(help: .hidden)
    var remount = false

    @Option(help: "Fetch ahead of reads: none, auto (files of up to 1 MiB), or all.")
    var prefetch: PrefetchMode = .none

    @Flag(help: "Return once what --prefetch asks for is local; where that fails, nothing stays mounted.")
    var wait = false

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
        if all {
            if !places.isEmpty { throw ValidationError("--all takes no reference and no mountpoint.") }
        } else if places.count < (remount ? 1 : 2) {
            throw ValidationError("Give at least one reference and a mountpoint.")
        }
        if rebase != "auto", rebase != "none", !rebase.hasPrefix("/") {
            throw ValidationError("--rebase needs auto, none or an absolute path.")
        }
        if wait, prefetch == .none { throw ValidationError("--wait needs --prefetch all, or auto.") }
        if let readDeadline, !(readDeadline > 0) {
            throw ValidationError("--read-deadline needs a number of seconds above 0.")
        }
    }

    func run() throws {
        var settings: [Configuration.Key: Configuration.Setting] = [:]
        if let cacheSize { settings[.cacheSize] = .init("\(cacheSize.bytes)", place: "--cache-size") }
        if let readDeadline { settings[.readDeadline] = .init("\(readDeadline)", place: "--read-deadline") }
        let configuration = try common.configuration(settings)
        let session = Session(configuration, common.output)
        if all { return try mountAll(session) }
        if remount { return try changeOptions(session) }
        let request = try request()
        if foreground { ForegroundDaemon(configuration, common.output).run(request) }
        let status = try session.call(
            "POST", "/v1/mounts", request, returning: MountStatus.self, settings: settings.values.map(\.place).sorted())
        try checkPlace(status.mountpoint, session)
        try print(status)
    }

    private func mountAll(_ session: Session) throws {
        let list = try session.call(
            "POST", "/v1/mounts/restore", RestoreRequest(caller: .ofThisProcess), returning: MountList.self)
        let lines = list.mounts.map { mount in
            "\(mount.mountpoint): \(mount.state.rawValue)"
                + (mount.state == .dead ? ", \(mount.problems.joined(separator: "; "))" : "")
        }
        try common.output.result(list, text: common.quiet ? "" : lines.joined(separator: "\n"))
        if list.mounts.contains(where: { $0.state == .dead }) { throw ExitCode(1) }
    }

    private func changeOptions(_ session: Session) throws(MCFSError) {
        let path = UserPath.canonical(places[places.count - 1], relativeTo: Configuration.currentDirectory())
        let request = RemountRequest(mountpoint: path, readOnly: readOnly, kernelOptions: kernelOption)
        let _: MountStatus = try session.call("POST", "/v1/mounts/remount", request, startsDaemon: false)
    }

    /// A daemon in another mount namespace mounts where this process may not see it.
    private func checkPlace(_ mountpoint: String, _ session: Session) throws(MCFSError) {
        if try Mountpoint.isMounted(mountpoint) { return }
        let request = UnmountRequest(mountpoint: mountpoint, lazy: true, force: false)
        let _: Empty? = try? session.call("DELETE", "/v1/mounts", request, startsDaemon: false)
        throw MCFSError(
            .cannotCreate,
            "the daemon of \(session.configuration.cacheDirectory) runs in another mount namespace (another container), and what it mounts at \(mountpoint) is not seen here; use --foreground with another --cache-dir, or share the mountpoint with it"
        )
    }

    private func request() throws(MCFSError) -> MountRequest {
        let caller = Caller.ofThisProcess
        var view = ViewRequest()
        view.gpu = choice.specs ?? ["auto"]
        view.rebase = rebase
        view.slim = slim
        var request = MountRequest(
            references: Array(places.dropLast()),
            mountpoint: UserPath.canonical(places[places.count - 1], relativeTo: caller.workingDirectory),
            prefetch: prefetch, offline: offline, allowOther: allowOther,
            readOnly: readOnly, upper: upper.map { UserPath.canonical($0, relativeTo: caller.workingDirectory) },
            fsname: fsname, kernelOptions: kernelOption, view: view, caller: caller)
        request.wait = wait
        return request
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
