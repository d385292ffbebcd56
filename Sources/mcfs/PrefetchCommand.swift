internal import ArgumentParser
internal import ControlAPI
internal import MCFSCore

struct PrefetchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prefetch", abstract: "Make bytes local before they are read; needs no mount.",
        discussion: "Can be stopped and begun again: what is local is not fetched twice.")

    @OptionGroup var common: CommonOptions
    @OptionGroup var filter: FilterOptions
    @OptionGroup var choice: GPUOptions

    @Argument(help: "A reference, or a path below a mountpoint.")
    var target: String

    @Flag(help: "Return at once; the daemon goes on. 'mcfs status' shows how far it is.")
    var background = false

    func run() throws {
        let request = SelectionRequest(
            target: try Target.text(target), include: filter.include, exclude: filter.exclude, caller: .ofThisProcess,
            background: background, gpu: choice.specs ?? ["auto"])
        let output = common.output
        let result: PrefetchResult = try Session(try common.configuration(), output).call(
            "POST", "/v1/prefetch", request
        ) {
            event in
            if output.json, let progress = event.progress { try? output.line(progress) }
        }
        if output.json { return try output.line(result) }
        let what = "\(count(result.files, "file")), \(ByteSize.text(result.bytes))"
        output.text(
            result.done ? "\(what): local after \(ByteSize.tenths(result.seconds)) s" : "\(what): being fetched")
    }
}
