internal import ControlAPI
internal import FlyingSocks
internal import MCFSCore

/// Some bytes and then the lines of a job as the body of an answer. When nobody reads it any more the stream goes, and
/// the job hears of it.
struct EventBody: AsyncBufferedSequence {
    typealias Element = UInt8

    private let first: [UInt8]
    private let rest: AsyncStream<Job.Output>?
    private let note: AnswersUnderWay.Note

    init(first: [UInt8], rest: AsyncStream<Job.Output>?, _ note: AnswersUnderWay.Note) {
        self.first = first
        self.rest = rest
        self.note = note
    }

    func makeAsyncIterator() -> Iterator { Iterator(first: first, rest: rest?.makeAsyncIterator(), note) }

    struct Iterator: AsyncBufferedIteratorProtocol {
        private var first: [UInt8]?
        private var rest: AsyncStream<Job.Output>.AsyncIterator?
        private let note: AnswersUnderWay.Note
        private var pending: [UInt8] = []

        fileprivate init(
            first: [UInt8], rest: AsyncStream<Job.Output>.AsyncIterator?, _ note: AnswersUnderWay.Note
        ) {
            self.first = first
            self.rest = rest
            self.note = note
        }

        mutating func next() async throws -> UInt8? {
            while pending.isEmpty {
                guard let more = try await nextBuffer(suggested: 1) else { return nil }
                pending = more.reversed()
            }
            return pending.popLast()
        }

        mutating func nextBuffer(suggested count: Int) async throws -> [UInt8]? {
            if let line = first {
                first = nil
                return line
            }
            guard let output = await rest?.next() else { return nil }
            switch output {
            case .line(let line): return line
            case .failure(let error):
                return ((try? JSON.line(Event<Empty>(error: ControlError(error)))) ?? []) + [UInt8(ascii: "\n")]
            }
        }
    }
}
