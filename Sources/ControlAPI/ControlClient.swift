package import MCFSCore
internal import Synchronization
package import Transport

/// Talks to the daemon of a cache directory. Thread safe; every call blocks the calling thread.
package final class ControlClient: Sendable {
    /// How long one line of a long answer may be away: the daemon writes one a second.
    package static let answerDeadline = Duration.seconds(30)
    /// Long work has no end of its own.
    private static let workDeadline = Duration.seconds(30 * 24 * 3600)

    package let socket: ControlSocket
    private let http: HTTPClient

    package init(cacheDirectory: String, http: HTTPClient = HTTPClient()) throws(MCFSError) {
        socket = try ControlSocket(cacheDirectory: cacheDirectory)
        self.http = http
    }

    /// Whether the daemon answers.
    package func isHealthy() -> Bool {
        guard socket.isListening else { return false }
        return (try? perform("GET", "/healthz", body: nil, deadline: Deadline(after: .seconds(5))))?.status == 200
    }

    package func status() throws(MCFSError) -> Status { try get("/v1/status") }

    package func jobs() throws(MCFSError) -> JobDocument { try get("/v1/jobs") }

    package func pins() throws(MCFSError) -> PinList { try get("/v1/pins") }

    /// The text of `/metrics`.
    package func metrics() throws(MCFSError) -> String {
        String(decoding: try succeeded(perform("GET", "/metrics", body: nil)).body, as: UTF8.self)
    }

    package func get<Result: Decodable>(_ path: String) throws(MCFSError) -> Result {
        try answer(succeeded(perform("GET", path, body: nil)).body)
    }

    /// Sends a request whose answer is a stream of events; returns its result.
    ///
    /// - Parameter onEvent: called with every event but the last, in order, on a thread of the client.
    /// - Throws: the daemon's error as it was there; `failed` where the answer was cut short.
    package func call<Request: Encodable, Result: Codable & Sendable>(
        _ method: String, _ path: String, _ request: Request, returning: Result.Type = Result.self,
        onEvent: @escaping @Sendable (Event<Result>) -> Void = { _ in }
    ) throws(MCFSError) -> Result {
        let lines = LineSink { line throws(MCFSError) -> Event<Result>? in
            let event = try JSON.decode(Event<Result>.self, line)
            if event.result != nil || event.error != nil { return event }
            onEvent(event)
            return nil
        }
        let response = try perform(
            method, path, body: JSON.line(request), deadline: Deadline(after: Self.workDeadline), sink: lines)
        _ = try succeeded(response)
        guard let last = lines.last else {
            throw MCFSError(.failed, "\(Self.gone) while it worked; see daemon.log in its cache directory")
        }
        if let error = last.error { throw error.error }
        guard let result = last.result else { throw MCFSError(.failed, "the daemon's answer to \(path) has no result") }
        return result
    }

    private static let gone = "the daemon went away"

    private func perform(
        _ method: String, _ path: String, body: [UInt8]?, deadline: Deadline = Deadline(after: answerDeadline),
        sink: (any ByteSink)? = nil
    ) throws(MCFSError) -> HTTPResponse {
        var headers: [(name: String, value: String)] = []
        // Without it curl may wait for "100 Continue", which this server never sends.
        if body != nil { headers = [("Content-Type", "application/json"), ("Expect", "")] }
        let request = HTTPRequest(
            method, "http://localhost" + path, headers: headers, body: body, unixSocket: socket.address)
        let before = DaemonMark.read(cacheDirectory: socket.cacheDirectory)
        guard try socket.checkListener() else {
            throw MCFSError(.failed, "cannot talk to the daemon at \(socket.path): nobody listens", isTransient: true)
        }
        do {
            return try http.perform(request, deadline: deadline) { response throws(MCFSError) in
                response.status == 200 ? sink : nil
            }
        } catch {
            if error.code == .originUnavailable || error.code == .timedOut {
                // What may have ended it is not sent to the next one.
                let now = DaemonMark.read(cacheDirectory: socket.cacheDirectory)
                let isHarmless = method == "GET" || DaemonMark.hasEnded(before, now: now)
                throw MCFSError(
                    .failed,
                    isHarmless
                        ? "cannot talk to the daemon at \(socket.path): \(error.message)"
                        : "\(Self.gone) before it answered; see daemon.log in its cache directory", cause: error,
                    isTransient: isHarmless)
            }
            throw error
        }
    }

    private func succeeded(_ response: HTTPResponse) throws(MCFSError) -> HTTPResponse {
        if response.status == 200 { return response }
        if let document = try? JSON.decode(ErrorDocument.self, response.body) {
            // 503 is the daemon's own "I am ending": another one can be asked.
            throw MCFSError(document.error.code, document.error.message, isTransient: response.status == 503)
        }
        throw MCFSError(.failed, "the daemon at \(socket.path) answered with HTTP status \(response.status)")
    }

    private func answer<Result: Decodable>(_ bytes: [UInt8]) throws(MCFSError) -> Result {
        do { return try JSON.decode(Result.self, bytes) } catch {
            throw MCFSError(
                .failed, "the daemon's answer cannot be read (\(error.message)); is it of another version of mcfs?")
        }
    }
}

/// Cuts a body into lines. Keeps what `take` makes of the last one.
private final class LineSink<Value: Sendable>: ByteSink {
    private struct State {
        var pending: [UInt8] = []
        var last: Value?
    }

    private let state = Lock(State())
    private let take: @Sendable ([UInt8]) throws(MCFSError) -> Value?

    init(_ take: @escaping @Sendable ([UInt8]) throws(MCFSError) -> Value?) { self.take = take }

    var last: Value? { state.withLock { $0.last } }

    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        let lines = state.withLock { state in
            var lines: [[UInt8]] = []
            var rest = bytes[...]
            while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                lines.append(state.pending + rest[..<end])
                state.pending = []
                rest = rest[(end + 1)...]
            }
            state.pending += rest
            return lines
        }
        for line in lines where !line.isEmpty {
            if let value = try take(line) { state.withLock { $0.last = value } }
        }
    }
}
