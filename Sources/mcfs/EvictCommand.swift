internal import ArgumentParser
internal import ControlAPI
internal import MCFSCore

struct EvictCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "evict", abstract: "Free the space of these bytes now; what is pinned stays.")

    @OptionGroup var common: CommonOptions
    @OptionGroup var filter: FilterOptions

    @Argument(help: "A reference, or a path below a mountpoint.")
    var target: String

    func run() throws {
        let request = SelectionRequest(
            target: try Target.text(target), include: filter.include, exclude: filter.exclude, caller: .ofThisProcess)
        let result: EvictResult = try Session(try common.configuration(), common.output).call(
            "POST", "/v1/evict", request)
        try common.output.result(result, text: result.text)
    }
}

extension EvictResult {
    var text: String { "freed \(ByteSize.text(bytesFreed)); the cache holds \(ByteSize.text(bytesUsed))" }
}
