internal import ArgumentParser
internal import Glibc
internal import MCFSCore

// A reader of our output that goes away (`mcfs ls … | head`) is no reason for a message.
signal(SIGPIPE, SIG_DFL)

var wantsJSON = CommandLine.arguments.dropFirst().prefix { $0 != "--" }.contains("--json")
do {
    var command = try RootCommand.parseAsRoot()
    try command.run()
} catch let error as MCFSError {
    Output(json: wantsJSON, quiet: false).fail(error)
} catch {
    if wantsJSON, RootCommand.exitCode(for: error) == .validationFailure {
        Output(json: true, quiet: true).printError(MCFSError(.usage, RootCommand.message(for: error)))
    }
    RootCommand.exit(withError: error)
}
