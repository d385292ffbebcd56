internal import ArgumentParser
internal import Glibc
internal import MCFSCore

// A reader of our output that goes away (`mcfs ls … | head`) is no reason for a message.
signal(SIGPIPE, SIG_DFL)

var wantsJSON = CommandLine.arguments.dropFirst().prefix { $0 != "--" }.contains("--json")
do {
    var arguments: [String]?
    if let name = CommandLine.arguments.first?.split(separator: "/").last, MountHelper.names.contains(String(name)) {
        arguments = try MountHelper(Array(CommandLine.arguments.dropFirst())).arguments
        if arguments == nil { exit(0) }
    }
    var command = try RootCommand.parseAsRoot(arguments)
    try command.run()
} catch let error as MCFSError {
    Output(json: wantsJSON, quiet: false).fail(error)
} catch {
    if wantsJSON, RootCommand.exitCode(for: error) == .validationFailure {
        Output(json: true, quiet: true).printError(MCFSError(.usage, RootCommand.message(for: error)))
    }
    RootCommand.exit(withError: error)
}
