internal import FlyingSocks

/// The lines of a job as the body of an answer. When nobody reads it any more the stream goes, and the job hears of it.
struct EventBody: AsyncBufferedSequence {
    typealias Element = UInt8

    private let first: [UInt8]
    private let rest: AsyncStream<Job.Output>
    private let encode: @Sendable (Job.Output) -> [UInt8]

    init(first: [UInt8], rest: AsyncStream<Job.Output>, encode: @escaping @Sendable (Job.Output) -> [UInt8]) {
        self.first = first
        self.rest = rest
        self.encode = encode
    }

    func makeAsyncIterator() -> Iterator {
        Iterator(first: first, rest: rest.makeAsyncIterator(), encode: encode)
    }

    struct Iterator: AsyncBufferedIteratorProtocol {
        fileprivate var first: [UInt8]?
        fileprivate var rest: AsyncStream<Job.Output>.AsyncIterator
        fileprivate let encode: @Sendable (Job.Output) -> [UInt8]
        private var pending: [UInt8] = []

        fileprivate init(
            first: [UInt8], rest: AsyncStream<Job.Output>.AsyncIterator,
            encode: @escaping @Sendable (Job.Output) -> [UInt8]
        ) {
            self.first = first
            self.rest = rest
            self.encode = encode
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
            guard let output = await rest.next() else { return nil }
            return encode(output)
        }
    }
}
