internal import ArgumentParser
internal import ControlAPI
internal import Daemon
internal import Glibc
internal import MCFSCore
internal import Synchronization

struct ListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls", abstract: "List a reference or a path below a mount, without fetching content.")

    @OptionGroup var common: CommonOptions

    @Argument(help: "A reference, or a path below a mountpoint.")
    var target: String

    @Flag(name: .customShort("l"), help: "Show mode, size, how much is local, and time.")
    var long = false

    @Flag(name: [.customShort("R"), .customLong("recursive")], help: "Everything below, not only the first level.")
    var recursive = false

    func run() throws {
        let request = SelectionRequest(
            target: try Target.text(target), caller: .ofThisProcess, recursive: recursive)
        let entries = Lock<[ListedEntry]>([])
        let _: Empty = try Session(try common.configuration(), common.output).call("POST", "/v1/ls", request) { event in
            if let more = event.entries { entries.withLock { $0 += more } }
        }
        let all = entries.withLock { $0 }
        try common.output.result(
            Listing(entries: all), text: long ? Self.table(all) : all.map(Self.name).joined(separator: "\n"))
    }

    private static func name(_ entry: ListedEntry) -> String {
        shown(entry.path, isDirectory: entry.type == "directory")
    }

    /// Directories end with a slash, control characters are shown as `?`.
    static func shown(_ path: String, isDirectory: Bool) -> String {
        let hasControl = path.utf8.contains { $0 < 32 || $0 == 127 }
        let shown =
            hasControl
            ? String(String.UnicodeScalarView(path.unicodeScalars.map { $0.value < 32 || $0.value == 127 ? "?" : $0 }))
            : path
        return isDirectory ? shown + "/" : shown
    }

    static func table(_ entries: [ListedEntry]) -> String {
        var table = Table([.left, .right, .right, .left, .left])
        for entry in entries {
            let isFile = entry.type == "file"
            let percent = entry.size == 0 ? 100 : Int(Double(entry.bytesLocal) / Double(entry.size) * 100)
            table.add(
                letter(entry.type) + String(repeating: "0", count: max(0, 4 - entry.mode.count)) + entry.mode,
                isFile ? "\(entry.size)" : "-", isFile ? "\(percent)%" : "-", time(entry.modified),
                name(entry) + (entry.target.map { " -> \($0)" } ?? ""))
        }
        return table.text
    }

    private static func letter(_ type: String) -> String {
        switch type {
        case "directory": "d"
        case "symlink": "l"
        case "fifo": "p"
        case "characterDevice": "c"
        case "blockDevice": "b"
        default: "-"
        }
    }

    /// UTC, to the minute.
    private static func time(_ seconds: Int64) -> String {
        var seconds = time_t(seconds)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func two(_ number: CInt) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return
            "\(parts.tm_year &+ 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday)) \(two(parts.tm_hour)):\(two(parts.tm_min))"
    }
}
