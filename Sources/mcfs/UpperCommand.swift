internal import ArgumentParser
internal import ControlAPI
internal import Daemon
internal import MCFSCore

struct UpperCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "upper", abstract: "What was written over the tree of a mount.",
        subcommands: [UpperListCommand.self, UpperResetCommand.self])
}

struct UpperListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List what was added, changed and removed.",
        discussion: """
            A: added, M: changed, D: removed. Behind a name that was moved stands where the tree has it; its bytes, and
            those of a file whose metadata alone was changed, are not in the upper.
            """)

    @OptionGroup var common: CommonOptions

    @Argument(help: "A mountpoint.")
    var mountpoint: String

    func run() throws {
        let path = UserPath.canonical(mountpoint, relativeTo: Configuration.currentDirectory())
        let changes: UpperChanges = try Session(try common.configuration(), common.output).call(
            "POST", "/v1/upper/list", UpperRequest(mountpoint: path), startsDaemon: false)
        try common.output.result(changes, text: changes.changes.map(Self.line).joined(separator: "\n"))
    }

    private static func line(_ change: UpperChanges.Change) -> String {
        let letter = change.change == "added" ? "A" : change.change == "removed" ? "D" : "M"
        var text = "\(letter)  " + ListCommand.shown(change.path, isDirectory: change.type == "directory")
        if let from = change.from { text += "  from \(ListCommand.shown(from, isDirectory: false))" }
        if change.metadataOnly { text += "  (metadata)" }
        if change.opaque { text += "  (replaces the folder)" }
        return text
    }
}
