internal import ArgumentParser
internal import ControlAPI
internal import Daemon
internal import MCFSCore

struct ExplainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain", abstract: "Say why a path of a mount is shown, hidden or not there.")

    @OptionGroup var common: CommonOptions

    @Argument(help: "A path below a mountpoint; it need not exist.")
    var path: String

    func run() throws {
        let path = UserPath.lexical(path, relativeTo: Configuration.currentDirectory())
        let explanation: Explanation = try Session(try common.configuration(), common.output).call(
            "POST", "/v1/explain", ExplainRequest(path: path), startsDaemon: false)
        try common.output.result(explanation, text: Self.text(explanation))
    }

    private static func text(_ explanation: Explanation) -> String {
        func shown(_ text: String) -> String { ListCommand.shown(text, isDirectory: false) }
        let state = explanation.state == .missing ? "not there" : explanation.state.rawValue
        var lines = ["\(shown(explanation.path)): \(state)", "  because  \(shown(explanation.reason))"]
        if let entry = explanation.entry {
            lines.append("  kernel   \(shown(entry.path))\(entry.name.map { " (\(shown($0)))" } ?? ""), \(entry.kind)")
            lines.append("  needs    \(entry.needs ?? "not known")")
            lines.append("  has      \(explanation.gpu.isEmpty ? "no GPU" : explanation.gpu.joined(separator: ", "))")
            lines.append("  verdict  \(entry.verdict) by rule \(entry.rule)")
            lines.append(
                "  local    \(ByteSize.text(entry.bytesLocal)) of \(ByteSize.text(entry.bytes)), \(entry.hits) hits")
        }
        if let origin = explanation.origin { lines.append("  origin   \(origin)") }
        if let digest = explanation.digest { lines.append("  digest   \(digest)") }
        for near in explanation.nearest {
            lines.append(
                "  near     \(shown(near.path))\(near.name.map { " (\(shown($0)))" } ?? "")\(near.target.map { ", \($0)" } ?? ""): \(shown(near.differs))"
            )
        }
        return lines.joined(separator: "\n")
    }
}
