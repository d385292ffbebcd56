internal import MCFSCore

/// Passes on the bytes of a body that lie in a range, and ends the transfer after them; keeps the body of an answer
/// that is none.
///
/// `@unchecked`: `HTTPClient` calls a sink from one thread, and the end of `perform` comes after its last call.
final class RangeSlice: ByteSink, @unchecked Sendable {
    private let range: ByteRange
    private let endpoint: String
    private let sink: any ByteSink
    /// Which bytes the body brings; nil: another answer, or none yet.
    private var body: ByteRange?
    /// Whether the answer said how long it is; else its length is that of the resource as it was resolved.
    private var isLengthAnnounced = true
    /// Offset in the resource of the next byte of the body.
    private var position: UInt64 = 0

    /// The head of an answer that is not a range, and as much of its body as is kept.
    private(set) var answer: HTTPResponse?
    private(set) var deliveredCount: UInt64 = 0
    /// Whether the transfer was ended because nothing more of it is of use.
    private(set) var isEnded = false

    init(_ range: ByteRange, endpoint: String, sink: any ByteSink) {
        self.range = range
        self.endpoint = endpoint
        self.sink = sink
    }

    var isComplete: Bool { deliveredCount == range.count }

    /// `body` nil: keep the answer.
    func begin(_ response: HTTPResponse, body: ByteRange?) {
        self.body = body
        isLengthAnnounced = response["Content-Length"] != nil || response["Content-Range"] != nil
        position = body?.lowerBound ?? 0
        if body == nil { answer = response }
    }

    func isFull(whenDrained: @escaping @Sendable () -> Void) -> Bool { sink.isFull(whenDrained: whenDrained) }

    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        guard let body else { return try keep(bytes) }
        let (end, overflows) = position.addingReportingOverflow(UInt64(bytes.count))
        guard !overflows, end <= body.upperBound else {
            if !isLengthAnnounced {
                throw MCFSError(
                    .changed,
                    "the content at \(endpoint) is not the one that was resolved: it has more than \(body.upperBound) bytes; mount it again"
                )
            }
            throw MCFSError(.originUnavailable, "\(endpoint) sent more bytes than it announced", isTransient: true)
        }
        let wanted = ByteRange(position, end).clamped(to: range)
        if !wanted.isEmpty {
            let first = Int(wanted.lowerBound - position)
            try sink.write(UnsafeRawBufferPointer(rebasing: bytes[first..<first + Int(wanted.count)]))
            deliveredCount += wanted.count
        }
        position = end
        // Where the body ends with the range, its regular end keeps the connection usable.
        if position >= range.upperBound, body.upperBound > range.upperBound { throw ending() }
    }

    private func keep(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        let room = RangeReader.answerBytesMax - (answer?.body.count ?? 0)
        answer?.body.append(contentsOf: bytes.prefix(room))
        if bytes.count > room { throw ending() }
    }

    private func ending() -> MCFSError {
        isEnded = true
        return MCFSError(.cancelled, "the rest of the answer is not needed")
    }
}
