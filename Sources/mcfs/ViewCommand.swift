internal import ArgumentParser
internal import ControlAPI
internal import Daemon
internal import MCFSCore

struct ViewCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "view", abstract: "What of their trees mounts show.", subcommands: [ViewRefreshCommand.self])
}

struct ViewRefreshCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "refresh", abstract: "Look at the GPUs of this host again, as SIGHUP to the daemon does.")

    @OptionGroup var common: CommonOptions

    @Argument(help: "Only this mount.")
    var mountpoint: String?

    func run() throws {
        let path = mountpoint.map { UserPath.canonical($0, relativeTo: Configuration.currentDirectory()) }
        let views: ViewList = try Session(try common.configuration(), common.output).call(
            "POST", "/v1/view/refresh", ViewRefreshRequest(mountpoint: path), startsDaemon: false)
        try common.output.result(views, text: views.views.map(Self.line).joined(separator: "\n"))
    }

    private static func line(_ view: ViewList.View) -> String {
        "\(view.mountpoint): " + StatusText.view(view.view)
    }
}
