internal import ArgumentParser
internal import ControlAPI
internal import Daemon
internal import Logging
internal import MCFSCore

/// What every command takes.
struct CommonOptions: ParsableArguments {
    @Flag(help: "Print results as JSON with sorted keys.")
    var json = false

    @Flag(name: .shortAndLong, help: "Print no progress and no warnings.")
    var quiet = false

    @Option(
        help: ArgumentHelp("How much to log: trace, debug, info, notice, warning, error, critical.", valueName: "level")
    )
    var logLevel: LogLevel?

    @Option(
        help: ArgumentHelp(
            "The cache directory (default: $MCFS_CACHE_DIR, the configuration, else /var/cache/mcfs as root or ~/.cache/mcfs).",
            valueName: "dir"))
    var cacheDir: String?

    var output: Output { Output(json: json, quiet: quiet) }

    /// - Parameter more: settings of the command's own options.
    func configuration(_ more: [Configuration.Key: Configuration.Setting] = [:]) throws(MCFSError) -> Configuration {
        var flags = more
        if let cacheDir {
            if cacheDir.isEmpty { throw MCFSError(.usage, "--cache-dir needs a directory") }
            flags[.cacheDir] = .init(cacheDir, place: "--cache-dir")
        }
        if let logLevel { flags[.logLevel] = .init(logLevel.rawValue, place: "--log-level") }
        return try Configuration.load(flags: flags, environment: .ofThisProcess)
    }
}

enum LogLevel: String, ExpressibleByArgument, CaseIterable {
    case trace, debug, info, notice, warning, error, critical
}

/// `50GiB`, `10G`, `4096`: checked where it is parsed, so that a bad one is a usage error.
struct SizeArgument: ExpressibleByArgument {
    let bytes: UInt64

    init?(argument: String) {
        guard let bytes = ByteSize.parse(argument) else { return nil }
        self.bytes = bytes
    }
}

/// Which files of a reference or path are meant.
struct FilterOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Only files whose path matches; may be repeated. * and ? stay within a name, ** spans directories.",
            valueName: "glob"))
    var include: [String] = []

    @Option(help: ArgumentHelp("Not these files, even if included; may be repeated.", valueName: "glob"))
    var exclude: [String] = []
}
