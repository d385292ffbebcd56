internal import Glibc
package import Logging
internal import MCFSCore
internal import Synchronization

/// One line per message on standard error: time, level, message, metadata. What is kept of a daemon's log on disk is
/// bounded: the file is begun anew, the old one stays once as `.1`.
package struct StandardErrorLog: LogHandler {
    package var logLevel: Logger.Level
    package var metadata: Logger.Metadata = [:]
    private let file: LogFile?

    init(level: Logger.Level, file: LogFile?) {
        logLevel = level
        self.file = file
    }

    package static func logger(level: Logger.Level, file: LogFile? = nil) -> Logger {
        Logger(label: "mcfs") { _ in StandardErrorLog(level: level, file: file) }
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var line = "\(Self.time()) \(event.level) \(event.message)"
        let all = metadata.merging(event.metadata ?? [:]) { $1 }
        for (key, value) in all.sorted(by: { $0.key < $1.key }) { line += " \(key)=\(Self.oneLine("\(value)"))" }
        line += "\n"
        let bytes = Array(line.utf8)
        _ = bytes.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
        file?.wrote(bytes.count)
    }

    private static func oneLine(_ text: String) -> String {
        let flat = text.split(whereSeparator: \.isNewline).joined(separator: " ")
        return flat.contains(" ") ? "\"\(flat)\"" : flat
    }

    private static func time() -> String {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        var parts = tm()
        gmtime_r(&now.tv_sec, &parts)
        func two(_ number: CInt) -> String { number < 10 ? "0\(number)" : "\(number)" }
        let milliseconds = "\(1000 + now.tv_nsec / 1_000_000)".dropFirst()
        return
            "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).\(milliseconds)Z"
    }
}

/// The file that standard error goes to, where the daemon was started in the background.
package final class LogFile: Sendable {
    package static let name = "daemon.log"
    static let bytesMax = 4 << 20

    private let path: String
    private let written: Lock<Int>

    package init(path: String) {
        self.path = path
        var status = stat()
        written = Lock(stat(path, &status) == 0 ? Int(status.st_size) : 0)
    }

    func wrote(_ count: Int) {
        written.withLock { written in
            written += count
            guard written > Self.bytesMax else { return }
            written = 0
            rename(path, path + ".1")
            guard let next = try? OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW) else {
                // What goes on being written to the old one stays bounded, too.
                ftruncate(2, 0)
                return
            }
            dup2(next.rawValue, 2)
        }
    }
}
