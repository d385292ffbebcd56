internal import Glibc
internal import MCFSCore

/// Asks on the terminal before something is removed.
enum Confirmation {
    /// - Parameters:
    ///   - what: is about to be done: `remove 3 files`.
    ///   - option: what it is that needs it, for who has no terminal.
    /// - Throws: `usage` without a terminal, `cancelled` for any answer but yes.
    static func ask(_ what: String, for option: String) throws(MCFSError) {
        // The question has to be seen, too.
        guard isatty(0) == 1, isatty(2) == 1 else {
            throw MCFSError(.usage, "\(option); without a terminal to ask at it needs -y")
        }
        Output.standardError("About to \(what). Continue? [y/N] ")
        let answer = (readLine() ?? "").lowercased().split(separator: " ")
        guard answer == ["y"] || answer == ["yes"] else {
            throw MCFSError(.cancelled, "nothing was removed; with -y nothing is asked")
        }
    }
}
