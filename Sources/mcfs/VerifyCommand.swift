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
        try common.output.result(result, text: VerifyText.text(result))
        let left = result.findings.count { !$0.repaired }
        if left > 0 {
            Output(json: false, quiet: common.quiet).warn("dropped \(count(left, "bad file"))")
            throw ExitCode(MCFSError.Code.corrupt.exitCode)
        }
    }
}

/// `mcfs verify` for people: what is right, and what nobody can tell.
enum VerifyText {
    static func text(_ result: VerifyResult) -> String {
        var lines = result.findings.map { "\($0.blob): \($0.message)\($0.repaired ? "; fetched again" : "")" }
        let rest = result.unverifiable.map { place in
            "\(UnverifiableText.files(place.files, place.bytes)) of \(place.reference ?? "other contents") "
                + (place.files == 1 ? "has no digest and cannot be checked" : "have no digest and cannot be checked")
        }
        if result.findings.isEmpty {
            if !rest.isEmpty || result.filesIncomplete > 0 {
                lines.append("\(UnverifiableText.files(result.filesChecked, result.bytesChecked)) checked and right")
            } else {
                lines.append(result.filesChecked == 0 ? "nothing is local" : "everything that is local is right")
            }
        }
        lines += rest
        if result.filesIncomplete > 0 {
            lines.append(
                "\(UnverifiableText.files(result.filesIncomplete, result.bytesIncomplete)) local in part; checked once complete"
            )
        }
        return lines.joined(separator: "\n")
    }
}
