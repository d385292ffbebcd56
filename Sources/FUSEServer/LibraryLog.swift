internal import CFUSE
internal import Glibc
internal import Logging
internal import Synchronization
import MCFSCore

/// Takes what libfuse would print on standard error: to the log, and, while a thread mounts, to the error that it throws.
enum LibraryLog {
    /// libfuse's log is one for the process.
    private static let logger = Lock<Logger?>(nil)
    /// By thread that is mounting: what libfuse said in its calls.
    private static let collected = Lock<[pthread_t: [String]]>([:])
    private static let isInstalled: Void = fuse_set_log_func { level, format, arguments in
        guard let format, let arguments else { return }
        var buffer = [CChar](repeating: 0, count: 512)
        let count = Int(vsnprintf(&buffer, buffer.count, format, arguments))
        let bytes = buffer.prefix(max(0, min(count, buffer.count - 1))).map { UInt8(bitPattern: $0) }
        LibraryLog.take(String(decoding: bytes, as: UTF8.self), level)
    }

    /// - Parameter newLogger: gets what is said from now on.
    static func install(_ newLogger: Logger) {
        logger.withLock { $0 = newLogger }
        isInstalled
    }

    /// Runs `body` and returns what libfuse said in it on this thread.
    static func collecting<R>(_ body: () -> R) -> (R, said: String) {
        let thread = pthread_self()
        collected.withLock { $0[thread] = [] }
        let result = body()
        let lines = collected.withLock { $0.removeValue(forKey: thread) } ?? []
        return (result, lines.joined(separator: "; "))
    }

    private static func take(_ text: String, _ level: fuse_log_level) {
        var line = Substring(text)
        while let last = line.last, last.isWhitespace { line.removeLast() }
        guard !line.isEmpty else { return }
        let thread = pthread_self()
        let isCollected = collected.withLock { collected in
            guard collected[thread] != nil else { return false }
            collected[thread]?.append(String(line))
            return true
        }
        if isCollected { return }
        logger.withLock({ $0 })?.log(
            level: level.rawValue <= FUSE_LOG_ERR.rawValue ? .error : level == FUSE_LOG_DEBUG ? .debug : .info,
            "libfuse reports", metadata: ["message": "\(line)"])
    }
}
