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

    @Flag(help: "Return at once; the daemon goes on. 'mcfs jobs' shows how far it is.")
    var background = false

    @Option(
        help: ArgumentHelp(
            "Seconds without a byte after which it is given up (default: 300).", valueName: "seconds"))
    var stallTimeout: Double?

    func validate() throws {
        if let stallTimeout, !(stallTimeout > 0) {
            throw ValidationError("--stall-timeout needs a number of seconds above 0.")
        }
    }

    func run() throws {
        let request = SelectionRequest(
            target: try Target.text(target), include: filter.include, exclude: filter.exclude, caller: .ofThisProcess,
            background: background, stallSeconds: stallTimeout, gpu: choice.specs ?? ["auto"])
        let output = common.output
        let result: PrefetchResult
        do throws(MCFSError) {
            result = try Session(try common.configuration(), output).call("POST", "/v1/prefetch", request) { event in
                if output.json, let progress = event.progress { try? output.line(PrefetchProgress(progress)) }
            }
        } catch {
            guard output.json else { throw error }
            // A line like the others, so that whoever reads them meets the end as one.
            try output.line(PrefetchFailure(error: ControlError(error)))
            if !output.quiet { Output(json: false, quiet: false).printError(error) }
            throw ExitCode(error.code.exitCode)
        }
        if output.json { return try output.line(result) }
        let what = "\(count(result.files, "file")), \(ByteSize.text(result.bytes))"
        output.text(
            result.done
                ? "\(what): local after \(ByteSize.tenths(result.seconds)) s"
                : "\(what): being fetched" + (result.job.map { " (job \($0))" } ?? ""))
    }
}

/// A line of `prefetch --json` while it works.
private struct PrefetchProgress: Encodable {
    let bytesDone: UInt64
    let bytesTotal: UInt64?
    let phase: String

    init(_ progress: Progress) {
        bytesDone = progress.done
        bytesTotal = progress.total
        phase = progress.phase
    }
}

/// The last line of one that failed.
private struct PrefetchFailure: Encodable {
    let done = true
    let error: ControlError
}
