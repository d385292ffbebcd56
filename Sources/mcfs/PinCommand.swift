internal import ArgumentParser
internal import ControlAPI
internal import MCFSCore

struct PinCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pin", abstract: "Never evict these bytes once they are local.",
        discussion: "Fetches nothing: use 'mcfs prefetch' for that. Kept over restarts.")

    @OptionGroup var common: CommonOptions
    @OptionGroup var filter: FilterOptions

    @Argument(help: "A reference, or a path below a mountpoint.")
    var target: String

    func run() throws { try PinChange.run("POST", target, filter, common) { "pinned \($0)" } }
}

enum PinChange {
    static func run(
        _ method: String, _ target: String, _ filter: FilterOptions, _ common: CommonOptions,
        _ sentence: (String) -> String
    ) throws {
        let request = SelectionRequest(
            target: try Target.text(target), include: filter.include, exclude: filter.exclude, caller: .ofThisProcess)
        let result: PinResult = try Session(try common.configuration(), common.output).call(method, "/v1/pins", request)
        try common.output.result(
            result,
            text: sentence(result.references.joined(separator: ", "))
                + "; \(ByteSize.text(result.bytesPinned)) of the cache are pinned")
    }
}
