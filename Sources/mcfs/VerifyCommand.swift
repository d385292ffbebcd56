internal import ArgumentParser
internal import ControlAPI
internal import MCFSCore

struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Check what is local against its digests.",
        discussion:
            "What does not match is dropped and fetched again when it is read. Ends with 65 if anything was bad and is not repaired."
    )

    @OptionGroup var common: CommonOptions

    @Flag(help: "Fetch what was bad again now, where a mount or a pin knows from where.")
    var repair = false

    func run() throws {
        let result: VerifyResult = try Session(try common.configuration(), common.output).call(
            "POST", "/v1/verify", VerifyRequest(repair: repair, caller: .ofThisProcess))
        let lines = result.findings.map { "\($0.blob): \($0.message)\($0.repaired ? "; fetched again" : "")" }
        try common.output.result(
            result, text: (lines.isEmpty ? ["everything that is local is right"] : lines).joined(separator: "\n"))
        let left = result.findings.count { !$0.repaired }
        if left > 0 {
            Output(json: false, quiet: common.quiet).warn("\(left) files were bad and have been dropped")
            throw ExitCode(MCFSError.Code.corrupt.exitCode)
        }
    }
}
