import MCFSCore
import MCFSTestSupport
import Synchronization
import Testing

@testable import Transport

@Suite("sinks that are full", .timeLimit(.minutes(5)))
struct BackPressureTests {
    /// One thread: both transfers of a test share a loop.
    private let client = HTTPClient(threadCount: 1)
    private static let content = pattern(3_000_000)

    /// Full from its first byte on until `drain`, then never again.
    private final class SlowSink: ByteSink {
        private struct State {
            var bytes: [UInt8] = []
            var isDrained = false
            var whenDrained: (@Sendable () -> Void)?
        }

        private let state = Guarded(State())
        private let failure: MCFSError?

        /// `failure`: what writing throws after `drain`.
        init(failure: MCFSError? = nil) { self.failure = failure }

        var bytes: [UInt8] { state.withLock { $0.bytes } }

        func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
            let isDrained = state.withLock { state in
                state.bytes += bytes
                return state.isDrained
            }
            if isDrained, let failure { throw failure }
        }

        func isFull(whenDrained: @escaping @Sendable () -> Void) -> Bool {
            state.update { state in
                if state.isDrained || state.bytes.isEmpty { return false }
                state.whenDrained = whenDrained
                return true
            }
        }

        /// Waits until a source waits for room.
        func waitUntilAsked() { state.wait(until: .soon) { $0.whenDrained == nil ? nil : true } }

        func drain() {
            state.update { state in
                state.isDrained = true
                defer { state.whenDrained = nil }
                return state.whenDrained
            }?()
        }
    }

    private func server() throws -> ScriptedServer {
        try ScriptedServer { request in
            request.path == "/small" ? ScriptedServer.Answer(200, body: [1]) : .file(Self.content, for: request)
        }
    }

    /// Runs `body` on a thread of its own; what it came to.
    private func background(
        _ body: @escaping @Sendable () throws(MCFSError) -> Void
    ) throws -> Guarded<Result<Void, MCFSError>?> {
        let result = Guarded<Result<Void, MCFSError>?>(nil)
        try startThread("test") {
            let outcome = Result { () throws(MCFSError) in try body() }
            result.update { $0 = outcome }
        }
        return result
    }

    @Test("a slow consumer of one transfer does not hold up another on the same loop")
    func others() throws {
        let server = try server()
        let sink = SlowSink()
        let (client, url) = (client, server.url)
        let slow = try background { () throws(MCFSError) in
            _ = try client.perform(HTTPRequest("GET", url + "/large"), deadline: .soon) { _ in sink }
        }
        sink.waitUntilAsked()
        for _ in 0..<3 {
            #expect(try client.perform(HTTPRequest("GET", url + "/small"), deadline: .soon).body == [1])
        }
        #expect(sink.bytes.count < Self.content.count)
        sink.drain()
        try #require(slow.wait(until: .soon) { $0 }).get()
        #expect(sink.bytes == Self.content)
    }

    @Test("sinks in front of a full one pass that on")
    func wrapped() throws {
        let server = try server()
        let sink = SlowSink()
        let (client, url) = (client, server.url)
        let range = ByteRange(10, 2_900_000)
        let slow = try background { () throws(MCFSError) in
            let source = RetryingSource(RangeSource(client, url + "/large"))
            try source.read(range, deadline: .soon, into: sink)
        }
        sink.waitUntilAsked()
        #expect(try client.perform(HTTPRequest("GET", url + "/small"), deadline: .soon).body == [1])
        sink.drain()
        try #require(slow.wait(until: .soon) { $0 }).get()
        #expect(sink.bytes == Array(Self.content[10..<2_900_000]))
    }

    private final class RangeSource: ByteSource {
        let name = "the test's range"
        let hasRandomAccess = true
        private let reader: RangeReader
        private let url: String

        init(_ client: HTTPClient, _ url: String) {
            reader = RangeReader(client: client)
            self.url = url
        }

        func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
            _ = try reader.read(
                range, HTTPRequest("GET", url), expecting: RangeReader.Expectation(), deadline: deadline, into: sink)
        }
    }

    @Test("the deadline ends a transfer that is held up")
    func deadline() throws {
        let server = try server()
        let sink = SlowSink()
        let error = #expect(throws: MCFSError.self) {
            try client.perform(
                HTTPRequest("GET", server.url + "/large"), deadline: Deadline(after: .milliseconds(300))
            ) { _ in sink }
        }
        #expect(error?.code == .timedOut)
        let count = sink.bytes.count
        // Room that comes too late reaches nobody.
        sink.drain()
        #expect(try client.perform(HTTPRequest("GET", server.url + "/small"), deadline: .soon).body == [1])
        #expect(sink.bytes.count == count)
    }

    @Test("a sink that gives up while it is full ends the transfer with its error")
    func givesUp() throws {
        let server = try server()
        let sink = SlowSink(failure: MCFSError(.cancelled, "nobody reads this any more"))
        let (client, url) = (client, server.url)
        let slow = try background { () throws(MCFSError) in
            _ = try client.perform(HTTPRequest("GET", url + "/large"), deadline: .soon) { _ in sink }
        }
        sink.waitUntilAsked()
        sink.drain()
        let result = try #require(slow.wait(until: .soon) { $0 })
        let error = #expect(throws: MCFSError.self) { try result.get() }
        #expect(error?.code == .cancelled)
        #expect(try client.perform(HTTPRequest("GET", url + "/small"), deadline: .soon).body == [1])
    }
}
