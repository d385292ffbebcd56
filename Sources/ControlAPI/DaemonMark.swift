internal import Glibc
internal import MCFSCore

/// What stands in the file `lock` of a cache directory: who serves it, and whether the one before came to its end. Empty: the last
/// one did, and none serves it.
package struct DaemonMark: Sendable, Equatable {
    package var process: Int32
    /// The daemon before it, where that was killed or ended by a fault.
    package var died: Int32?

    package init(process: Int32, died: Int32?) {
        self.process = process
        self.died = died
    }

    package var text: String { "\(process)\n" + (died.map { "\($0) died\n" } ?? "") }

    package init?(bytes: [UInt8]) {
        let lines = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline)
        guard let process = lines.first.flatMap({ Int32($0) }) else { return nil }
        self.process = process
        died = lines.dropFirst().first.flatMap { Int32($0.prefix { $0 != " " }) }
    }

    /// nil where no daemon serves the directory, or it cannot be told.
    static func read(cacheDirectory: String) -> DaemonMark? {
        guard let file = try? OwnedDescriptor.open(cacheDirectory + "/lock", O_RDONLY | O_NOFOLLOW | O_NONBLOCK) else {
            return nil
        }
        var bytes = [UInt8](repeating: 0, count: 100)
        let count = try? bytes.withUnsafeMutableBytes { (buffer) throws(Errno) in try file.read(into: buffer, at: 0) }
        return DaemonMark(bytes: Array(bytes.prefix(count ?? 0)))
    }

    /// Whether the daemon of `before` has come to its end, as `now` tells.
    static func hasEnded(_ before: DaemonMark?, now: DaemonMark?) -> Bool {
        guard let before, let now else { return true }
        return now.process != before.process && now.died != before.process
    }
}
