import MCFSCore

/// How far ahead of the readers of one file to fetch: nothing for a random reader, a window that grows for a sequential
/// one. Several readers, or one that walks several places in turns, are told apart by where they read.
struct ReadAhead: Sendable {
    /// First window of a reader that turned out sequential, in bytes.
    static let windowMin: UInt64 = 8 << 20
    /// A reader is sequential once it has read so many bytes, in more than one read: the kernel makes two of a small random read.
    static let streamMin: UInt64 = 512 << 10
    /// Largest window, in bytes: sixteen of the longest ranges, which keeps every connection busy.
    static let windowMax: UInt64 = 16 * FetchQueue.rangeBytesMax
    /// How much larger a window gets once it was used up. Over a long way each step costs two round trips, since it opens
    /// connections: with four there are two steps to all of them.
    static let growth: UInt64 = 4
    /// A read that begins at most so far behind the start of a run begins it, in bytes.
    static let runStartMax: UInt64 = 1 << 20
    /// The kernel sends the requests of its own read-ahead in parallel: they come a little out of order.
    static let tolerance: UInt64 = 4 << 20
    /// Most readers that are told apart; of more, the one that was silent longest is forgotten.
    static let streamsMax = 16

    /// What to fetch, and in ranges of which length.
    struct Request: Equatable {
        var range: ByteRange
        /// Bytes. Short while the window is small: several connections then bring it in parallel.
        var rangeBytes: UInt64
    }

    fileprivate struct Stream {
        /// Where the reader began.
        var start: UInt64
        /// Where the reader would go on.
        var next: UInt64
        var window: UInt64 = 0
        /// Up to where was asked for already.
        var asked: UInt64
        /// Where the window grows.
        var growsAt: UInt64 = 0
        var lastRead: UInt64
    }

    /// The run of bytes that holds an offset, where something is known of the file: who reads the first of a run will read
    /// it to its end.
    var run: (@Sendable (UInt64) -> ByteRange?)?

    private let windowMax: UInt64
    private var streams: [Stream] = []
    private var clock: UInt64 = 0

    /// - Parameter windowMax: bytes.
    init(windowMax: UInt64 = Self.windowMax) { self.windowMax = windowMax }

    /// Takes note of a read. - Returns: what to fetch beyond it; nil for nothing.
    mutating func advance(_ range: ByteRange, size: UInt64) -> Request? {
        clock += 1
        guard let index = stream(at: range) else {
            // A first read is not yet a stream: the first bytes of a file are read by anything that looks at it.
            var stream = Stream(
                start: range.lowerBound, next: range.upperBound, asked: range.upperBound, lastRead: clock)
            defer { add(stream) }
            guard let rest = restOfRun(begunBy: range) else { return nil }
            stream.begin(window: min(max(rest, Self.windowMin), windowMax))
            return stream.request(size: size, windowMax: windowMax)
        }
        defer { streams[index].lastRead = clock }
        return streams[index].advance(range, size: size, windowMax: windowMax)
    }

    /// What is left of a run whose first bytes are in `range`, in bytes. A page that is mapped is read with what lies around it,
    /// so the read may begin before the run.
    private func restOfRun(begunBy range: ByteRange) -> UInt64? {
        guard !range.isEmpty, let run = run?(range.upperBound - 1),
            run.upperBound > range.upperBound, run.lowerBound + Self.runStartMax >= range.lowerBound
        else { return nil }
        return run.upperBound - range.upperBound
    }

    /// The nearest of the readers that may have sent this read.
    private func stream(at range: ByteRange) -> Int? {
        func distance(_ stream: Stream) -> UInt64 {
            max(stream.next, range.lowerBound) - min(stream.next, range.lowerBound)
        }
        let near = streams.indices.filter { distance(streams[$0]) <= Self.tolerance }
        return near.min { distance(streams[$0]) < distance(streams[$1]) }
    }

    private mutating func add(_ stream: Stream) {
        if streams.count == Self.streamsMax,
            let oldest = streams.indices.min(by: { streams[$0].lastRead < streams[$1].lastRead })
        {
            streams[oldest] = stream
        } else {
            streams.append(stream)
        }
    }
}

extension ReadAhead.Stream {
    fileprivate mutating func advance(
        _ range: ByteRange, size: UInt64, windowMax: UInt64
    ) -> ReadAhead.Request? {
        // What was read again, or out of order, moves nothing.
        guard range.upperBound > next else { return nil }
        next = range.upperBound
        if window == 0 {
            guard next - min(start, next) >= ReadAhead.streamMin else { return nil }
            begin(window: min(ReadAhead.windowMin, windowMax))
        } else if next >= growsAt {
            begin(window: min(window * ReadAhead.growth, windowMax))
        }
        return request(size: size, windowMax: windowMax)
    }

    fileprivate mutating func begin(window: UInt64) {
        self.window = window
        growsAt = next + window
    }

    /// What the window holds beyond what was asked for.
    fileprivate mutating func request(size: UInt64, windowMax: UInt64) -> ReadAhead.Request? {
        asked = max(asked, next)
        // In steps of one range: the connections stay busy, and no range is cut short.
        let rangeBytes = min(max(window / 16, 1 << 20), FetchQueue.rangeBytesMax)
        let end = min(size, next + window)
        guard end > asked, end - asked >= rangeBytes || end == size else { return nil }
        let count = end == size ? end - asked : (end - asked) / rangeBytes * rangeBytes
        defer { asked += count }
        return ReadAhead.Request(range: ByteRange(asked, asked + count), rangeBytes: rangeBytes)
    }
}
