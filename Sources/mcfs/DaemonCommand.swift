internal import ArgumentParser
internal import Daemon
internal import Glibc
internal import MCFSCore

struct DaemonCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "daemon",
        abstract: "Run the daemon of a cache directory in the foreground.",
        discussion: """
            Other commands start it by themselves. It owns the cache and all mounts, and ends when nothing is mounted
            and nobody asked for anything for a while. SIGTERM and SIGINT unmount everything and end it.
            """)

    @OptionGroup var common: CommonOptions

    @Flag(help: "Accepted for clarity: the daemon always runs in the foreground.")
    var foreground = false

    @Option(help: ArgumentHelp("Most bytes that the cache keeps, such as 50GiB.", valueName: "size"))
    var cacheSize: SizeArgument?

    @Option(help: ArgumentHelp("Seconds after which a read that cannot be answered fails.", valueName: "seconds"))
    var readDeadline: Double?

    @Option(help: .hidden)
    var readyDescriptor: Int32?

    func run() throws {
        var settings: [Configuration.Key: Configuration.Setting] = [:]
        if let cacheSize { settings[.cacheSize] = .init("\(cacheSize.bytes)", place: "--cache-size") }
        if let readDeadline { settings[.readDeadline] = .init("\(readDeadline)", place: "--read-deadline") }
        // Started in the background, it must not hold the starter's directory.
        if readyDescriptor != nil { chdir("/") }
        ForegroundDaemon(try common.configuration(settings), common.output).run(readyDescriptor: readyDescriptor)
    }
}
