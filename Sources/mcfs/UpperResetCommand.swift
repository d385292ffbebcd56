internal import ArgumentParser
internal import ControlAPI
internal import Daemon
internal import MCFSCore

struct UpperResetCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reset", abstract: "Go back to the tree.",
        discussion: """
            What was deleted, renamed or replaced shows again as and where the tree has it, and files of the tree have the \
            owner, mode, times and attributes that they had. Files that were written stay, and go before the tree's; with \
            --all they go, too. Can be run beside programs that use the mount.
            """)

    @OptionGroup var common: CommonOptions

    @Argument(help: "A mountpoint.")
    var mountpoint: String

    @Argument(help: "A file or folder in the mount, from the mountpoint (default: everything).")
    var path: String?

    @Flag(help: "Remove what was written as well.")
    var all = false

    @Flag(name: [.customShort("y"), .customLong("yes")], help: "Do not ask.")
    var yes = false

    func run() throws {
        let output = common.output
        let mountpoint = UserPath.canonical(mountpoint, relativeTo: Configuration.currentDirectory())
        let path = try inner(mountpoint)
        let session = Session(try common.configuration(), output)
        func call(dryRun: Bool) throws -> UpperReset {
            try session.call(
                "POST", "/v1/upper/reset",
                UpperResetRequest(mountpoint: mountpoint, path: path, all: all, dryRun: dryRun), startsDaemon: false)
        }
        if all && !yes {
            let would = try call(dryRun: true)
            if would.files + would.folders > 0 {
                let place = path.split(separator: "/").isEmpty ? mountpoint : "'\(path)' in \(mountpoint)"
                try Confirmation.ask(
                    "remove what was written at \(place) (\(Self.written(would))), and what is remembered there",
                    for: "--all removes what was written")
            }
        }
        let done = try call(dryRun: false)
        try output.result(done, text: Self.text(done))
    }

    /// The path from the mountpoint.
    private func inner(_ mountpoint: String) throws(MCFSError) -> String {
        guard let path else { return "" }
        guard path.hasPrefix("/") else { return path }
        for start in [mountpoint, self.mountpoint] where path == start || path.hasPrefix(start + "/") {
            return String(path.dropFirst(start.count))
        }
        throw MCFSError(.usage, "\(path) is not in \(mountpoint)")
    }

    private static func text(_ done: UpperReset) -> String {
        var parts: [String] = []
        if done.reset > 0 { parts.append("\(count(done.reset, "change")) of the tree forgotten") }
        if done.files > 0 || done.folders > 0 && parts.isEmpty { parts.append("\(written(done)) removed") }
        return parts.isEmpty ? "nothing to reset" : parts.joined(separator: "; ")
    }

    private static func written(_ counts: UpperReset) -> String {
        var parts: [String] = []
        if counts.files > 0 { parts.append("\(count(counts.files, "file")) with \(ByteSize.text(counts.bytes))") }
        if counts.folders > 0 { parts.append(count(counts.folders, "folder")) }
        return parts.joined(separator: " and ")
    }
}
