internal import ArgumentParser
internal import Glibc
internal import MCFSCore

// A reader of our output that goes away (`mcfs ls … | head`) is no reason for a message.
signal(SIGPIPE, SIG_DFL)

let ownArguments = CommandLine.arguments.dropFirst().prefix { $0 != "--" }
var wantsJSON = ownArguments.contains("--json")
do {
    // Names of files may have any bytes; what is read as other bytes than were given would be another file.
    for number in 1..<max(1, Int(CommandLine.argc)) {
        guard let bytes = CommandLine.unsafeArgv[number], String(validatingCString: bytes) == nil else { continue }
        throw MCFSError(
            .usage,
            "argument \(number) is not UTF-8; give a path that is, such as one with a link in it, or that of the folder"
        )
    }
    // Most often a variable of a script that has no value; taken for a path it would be the working directory.
    if let empty = ownArguments.first(where: { $0.isEmpty || $0.hasPrefix("--") && $0.hasSuffix("=") }) {
        throw MCFSError(
            .usage,
            empty.isEmpty ? "an argument is empty; give it a value, or leave it out" : "\(empty) has no value behind it"
        )
    }
    var arguments: [String]?
    if let name = CommandLine.arguments.first?.split(separator: "/").last, MountHelper.names.contains(String(name)) {
        arguments = try MountHelper(Array(CommandLine.arguments.dropFirst()), isRoot: geteuid() == 0).arguments
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
