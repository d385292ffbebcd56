import MCFSCore

/// How far ahead of one reader to fetch: nothing for a random reader, a window that doubles for a sequential one.
struct ReadAhead: Sendable {
    /// First window of a reader that turned out sequential, in bytes.
    static let windowMin: UInt64 = 4 << 20
    static let windowMax: UInt64 = 32 << 20
    /// The kernel sends the requests of its own read-ahead in parallel: they come a little out of order.
    static let tolerance: UInt64 = 4 << 20

    /// Where the reader would go on.
    private var next: UInt64 = 0
    private var window: UInt64 = 0
    /// Up to where was asked for already.
    private var asked: UInt64 = 0
    private var hasRead = false

    /// Takes note of a read. - Returns: what to fetch beyond it; nil for nothing.
    mutating func advance(_ range: ByteRange, size: UInt64) -> ByteRange? {
        let isSequential =
            range.lowerBound <= next + Self.tolerance && range.lowerBound + Self.tolerance >= next
        defer {
            next = isSequential ? max(next, range.upperBound) : range.upperBound
            hasRead = true
        }
        guard isSequential else {
            window = 0
            asked = range.upperBound
            return nil
        }
        // A file's first bytes are read by anything that looks at it: that is not yet a stream.
        guard hasRead, range.upperBound > next else { return nil }
        if window == 0 {
            window = Self.windowMin
            asked = max(asked, range.upperBound)
        }
        // Ask again when half of the window is used up.
        guard asked < size, range.upperBound + window / 2 >= asked else { return nil }
        let end = min(size, range.upperBound + window)
        guard end > asked else { return nil }
        defer {
            asked = end
            window = min(window * 2, Self.windowMax)
        }
        return ByteRange(max(asked, range.upperBound), end)
    }
}
