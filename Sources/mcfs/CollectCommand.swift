internal import ArgumentParser
internal import ControlAPI
internal import MCFSCore

struct CollectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "gc",
        abstract: "Evict what was read longest ago until the cache is small enough; what is pinned stays.")

    @OptionGroup var common: CommonOptions

    @Option(
        help: ArgumentHelp("Bytes to go down to, such as 10GiB (default: the cache's own limit).", valueName: "size"))
    var maxSize: SizeArgument?

    func run() throws {
        let result: EvictResult = try Session(try common.configuration(), common.output).call(
            "POST", "/v1/gc", CollectRequest(bytesMax: maxSize?.bytes))
        try common.output.result(result, text: result.text)
    }
}
