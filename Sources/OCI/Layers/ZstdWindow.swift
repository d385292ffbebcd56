package import MCFSCore

/// How much memory zstd frames may ask for: their window, which whoever packed them chose.
package struct ZstdWindow: Sendable {
    /// As `zstd --long=N` names it: a window of 2^N bytes.
    package static let variable = "MCFS_ZSTD_WINDOW_LOG"
    /// What `zstd -d` takes where it is not told otherwise.
    private static let usualLog = 27
    private static let logs = 10...31

    let log: Int

    package init() { log = Self.usualLog }

    init(log: Int) { self.log = log }

    /// - Throws: `configuration` where the variable is no window's.
    package init(_ environment: Environment) throws(MCFSError) {
        guard let text = environment[Self.variable] else {
            self.init()
            return
        }
        guard let log = Int(text), Self.logs.contains(log) else {
            throw MCFSError(
                .configuration,
                "\(Self.variable) is '\(text)'; set it to a number from \(Self.logs.lowerBound) to \(Self.logs.upperBound)"
            )
        }
        self.init(log: log)
    }

    /// The window that a frame asks for, from its first bytes (RFC 8878 §3.1.1); nil while more of them are needed, 0 where it
    /// is no frame with content.
    static func bytes(of head: some RandomAccessCollection<UInt8>) -> UInt64? {
        let head = Array(head.prefix(headBytesMax))
        guard head.count >= 4 else { return nil }
        guard head.starts(with: [0x28, 0xb5, 0x2f, 0xfd]) else { return 0 }
        guard head.count >= 6 else { return nil }
        let isSingleSegment = head[4] & 0x20 != 0
        if !isSingleSegment {
            let base: UInt64 = 1 << (10 + UInt64(head[5] >> 3))
            return base + base / 8 * UInt64(head[5] & 7)
        }
        // The window is the content, whose size follows the number of the dictionary.
        let dictionary = [0, 1, 2, 4][Int(head[4] & 3)]
        let count = [1, 2, 4, 8][Int(head[4] >> 6)]
        let start = 5 + dictionary
        guard head.count >= start + count else { return nil }
        let content = head[start..<start + count].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return count == 2 ? content + 256 : content
    }

    /// Bytes of a frame's head, at most.
    static let headBytesMax = 18
}

/// Memory for large windows, for all decoders of the process: who comes when too much is taken waits.
final class ZstdWindowMemory: Sendable {
    static let shared = ZstdWindowMemory(bytesMax: 512 << 20)
    /// What every decoder has to support: such windows are not counted.
    static let smallBytesMax: UInt64 = 8 << 20

    private let bytesMax: UInt64
    private let taken = Guarded(UInt64(0))

    init(bytesMax: UInt64) { self.bytesMax = bytesMax }

    /// Blocks until there is room. One that is larger than all there is gets it alone.
    ///
    /// - Returns: false at the deadline.
    func take(_ bytes: UInt64, until deadline: Deadline) -> Bool {
        taken.wait(until: deadline) { taken in
            guard taken == 0 || taken.addingClamped(bytes) <= self.bytesMax else { return nil }
            taken.addClamped(bytes)
            return true
        } ?? false
    }

    func give(_ bytes: UInt64) { taken.update { $0 -= min($0, bytes) } }
}
