internal import ControlAPI
internal import Glibc
internal import MCFSCore

/// Where a command's results and everything else go: results on standard output, the rest on standard error.
struct Output: Sendable {
    let json: Bool
    let quiet: Bool

    /// Prints a result: its JSON document, or the text for people.
    func result(_ value: some Encodable, text: @autoclosure () -> String) throws(MCFSError) {
        if json {
            write(try JSON.document(value) + [UInt8(ascii: "\n")])
        } else {
            let text = text()
            if !text.isEmpty { write(Array((text + "\n").utf8)) }
        }
    }

    /// The same where the document is written by hand, because there may be ten thousand of what it lists.
    func result(document: @autoclosure () -> [UInt8], text: @autoclosure () -> String) {
        write(json ? document() : Array((text() + "\n").utf8))
    }

    /// One JSON object on one line, for commands that print a stream of them.
    func line(_ value: some Encodable) throws(MCFSError) { write(try JSON.line(value) + [UInt8(ascii: "\n")]) }

    func text(_ text: String) { write(Array((text + "\n").utf8)) }

    func warn(_ message: String) {
        if !quiet { Self.standardError("mcfs: warning: \(message)\n") }
    }

    /// Plain on standard error and, with `--json`, as a document on standard output.
    func printError(_ error: MCFSError) {
        if json, let document = try? JSON.document(ErrorDocument(error)) { write(document + [UInt8(ascii: "\n")]) }
        if !(json && quiet) {
            let sentence = error.message.split(whereSeparator: \.isNewline).joined(separator: " ")
            Self.standardError("mcfs: \(sentence)\n")
        }
    }

    func fail(_ error: MCFSError) -> Never {
        printError(error)
        exit(error.code.exitCode)
    }

    static func standardError(_ text: String) { write(Array(text.utf8), to: 2) }

    private func write(_ bytes: [UInt8]) { Self.write(bytes, to: 1) }

    private static func write(_ bytes: [UInt8], to descriptor: CInt) {
        bytes.withUnsafeBytes { buffer in
            var rest = buffer[...]
            while !rest.isEmpty {
                let count = Glibc.write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
                if count < 0 && errno == EINTR { continue }
                if count <= 0 { return }
                rest = rest.dropFirst(count)
            }
        }
    }
}
