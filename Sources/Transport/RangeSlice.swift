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
    /// What is kept back until the end of the body shows that it is the resource that was resolved.
    private var held: [UInt8]?
    /// Offset in the resource of the next byte of the body.
    private var position: UInt64 = 0

    /// The head of an answer that is not a range, and as much of its body as is kept.
    private(set) var answer: HTTPResponse?
    private(set) var deliveredCount: UInt64 = 0
    /// Whether the transfer was ended because nothing more of it is of use.
    private(set) var isEnded = false

    /// Bytes that are kept back at most: more than one request of the cache asks for.
    private static let heldBytesMax = 16 << 20

    init(_ range: ByteRange, endpoint: String, sink: any ByteSink) {
        self.range = range
        self.endpoint = endpoint
        self.sink = sink
    }

    var isComplete: Bool { deliveredCount == range.count }

    /// `body` nil: keep the answer.
    func begin(_ response: HTTPResponse, body: ByteRange?, isVerified: Bool) {
        self.body = body
        held = nil
        isLengthAnnounced = response["Content-Length"] != nil || response["Content-Range"] != nil
        if body != nil, !isLengthAnnounced, !isVerified { held = [] }
        position = body?.lowerBound ?? 0
        if body == nil { answer = response }
    }

    func isFull(whenDrained: @escaping @Sendable () -> Void) -> Bool { sink.isFull(whenDrained: whenDrained) }
    var isAbandoned: Bool { sink.isAbandoned }

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
            try deliver(UnsafeRawBufferPointer(rebasing: bytes[first..<first + Int(wanted.count)]))
        }
        position = end
        // Where the body ends with the range, its regular end keeps the connection usable.
        if held == nil, position >= range.upperBound, body.upperBound > range.upperBound { throw ending() }
    }

    private func deliver(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        guard held != nil else {
            try sink.write(bytes)
            deliveredCount += UInt64(bytes.count)
            return
        }
        guard range.count <= UInt64(Self.heldBytesMax) else {
            throw MCFSError(
                .originUnavailable,
                "\(endpoint) answers with a whole file without saying how long it is; let it send Content-Length or ranges"
            )
        }
        held?.append(contentsOf: bytes)
    }

    /// Delivers what was kept back, once the body ended as it should. Blocks the calling thread.
    func finish(deadline: Deadline) throws(MCFSError) {
        guard let bytes = held, let body else { return }
        guard body.upperBound == .max || position == body.upperBound else {
            throw MCFSError(
                .changed,
                "the content at \(endpoint) is not the one that was resolved: it has \(position) bytes instead of \(body.upperBound); mount it again"
            )
        }
        held = nil
        if bytes.isEmpty { return }
        try sink.waitForRoom(until: deadline, endpoint)
        let result = bytes.withUnsafeBytes { bytes in Result { () throws(MCFSError) in try deliver(bytes) } }
        try result.get()
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
