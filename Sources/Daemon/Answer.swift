internal import ControlAPI
internal import FlyingFox
internal import MCFSCore

/// What a request of the control socket is answered with.
struct Answer: Sendable {
    private enum Body: Sendable {
        case whole([UInt8])
        case events(first: [UInt8], rest: AsyncStream<Job.Output>)
    }

    private var status = HTTPStatusCode.ok
    private let type: String
    private let body: Body

    init(text: String, type: String) {
        self.type = type
        body = .whole(Array(text.utf8))
    }

    init(document value: some Encodable) throws {
        type = "application/json"
        body = .whole(try JSON.document(value) + [UInt8(ascii: "\n")])
    }

    init(_ error: MCFSError) {
        status = error.code.httpStatus
        type = "application/json"
        body = .whole((try? JSON.line(ErrorDocument(error))) ?? [])
    }

    /// A line for each event.
    init(first: [UInt8], rest: AsyncStream<Job.Output>) {
        type = "application/x-ndjson"
        body = .events(first: first, rest: rest)
    }

    /// `note` is held until the last byte was sent.
    func response(_ note: AnswersUnderWay.Note) -> HTTPResponse {
        let sequence =
            switch body {
            case .whole(let bytes): HTTPBodySequence(from: EventBody(first: bytes, rest: nil, note), count: bytes.count)
            case .events(let first, let rest): HTTPBodySequence(from: EventBody(first: first, rest: rest, note))
            }
        return HTTPResponse(statusCode: status, headers: [.contentType: type], body: sequence)
    }
}
