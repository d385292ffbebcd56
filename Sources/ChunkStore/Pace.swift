import MCFSCore

/// How fast an origin gives bytes, by one request.
struct Pace: Sendable {
    /// Bytes a second; nil: not known yet.
    private(set) var bytesPerSecond: Double?

    /// What a request may take that nobody waits for: others to the same origin come after it, and so does a reader of what it
    /// has not brought yet.
    static let rangeDuration = Duration.seconds(4)
    /// Less says nothing of the pace, in bytes: the round trip takes most of the time.
    private static let bytesMin: UInt64 = 64 << 10

    /// Longest range to ask for in one request, in bytes.
    var rangeBytesMax: UInt64 {
        bytesPerSecond.map { UInt64(clamping: Int64(min($0 * Self.rangeDuration.inSeconds, 1e15))) } ?? .max
    }

    mutating func learn(bytes: UInt64, in duration: Duration) {
        guard bytes >= Self.bytesMin, duration > .zero else { return }
        let latest = Double(bytes) / duration.inSeconds
        bytesPerSecond = bytesPerSecond.map { ($0 + latest) / 2 } ?? latest
    }
}
