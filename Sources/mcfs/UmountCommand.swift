internal import ArgumentParser
internal import ControlAPI
internal import Daemon
internal import MCFSCore

struct UmountCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "umount",
        abstract: "Unmount.",
        discussion: "Also takes away a mount whose daemon was killed.")

    @OptionGroup var common: CommonOptions

    @Argument(help: "Where it is mounted.")
    var mountpoint: String

    @Flag(help: "Take it away now; what is open there can be read until it is closed.")
    var lazy = false

    @Flag(help: "Unmount even where files are open or reads hang: they fail.")
    var force = false

    func run() throws {
        let path = UserPath.canonical(mountpoint, relativeTo: Configuration.currentDirectory())
        let request = UnmountRequest(mountpoint: path, lazy: lazy, force: force)
        let session = Session(try common.configuration(), common.output)
        if try session.runningClient != nil {
            let _: Empty = try session.call("DELETE", "/v1/mounts", request, startsDaemon: false)
        } else {
            try Unmounting.withoutDaemon(request, cacheDirectory: session.configuration.cacheDirectory)
        }
        try common.output.result(Empty(), text: "")
    }
}
