import Catalog
import Logging
import MCFSCore
import MCFSTestSupport
import Synchronization
import Testing
import Transport

@testable import Origins

/// A scripted Hub and the host of its large files. Routes are whole targets; what has no route is 404 without a code.
final class ScriptedHub: Sendable {
    typealias Route = @Sendable (ScriptedServer.Request) -> ScriptedServer.Answer

    static let commit = "0123456789abcdef0123456789abcdef01234567"
    static let large = (0..<5000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
    static let sha256 = Digest.sha256(of: large).hex

    let hub: ScriptedServer
    let content: ScriptedServer
    private let shared: Shared

    private final class Shared: Sendable {
        let state = Lock(State())
    }

    private struct State {
        var routes: [String: Route] = [:]
        var signature = 1
        var contentRule: Route?
    }

    init() throws {
        let shared = Shared()
        self.shared = shared
        content = try ScriptedServer { request in
            let (signature, rule) = shared.state.withLock { ($0.signature, $0.contentRule) }
            if let rule { return rule(request) }
            guard request.query == "Signature=s\(signature)" else { return .init(403, text: "<Error/>") }
            return .file(Self.large, for: request)
        }
        hub = try ScriptedServer { request in
            let route = shared.state.withLock { $0.routes[request.target] }
            return route?(request) ?? .init(404, text: "no route")
        }
    }

    func route(_ target: String, _ answer: @escaping Route) {
        shared.state.withLock { $0.routes[target] = answer }
    }

    func json(_ target: String, _ text: String, headers: [(name: String, value: String)] = []) {
        route(target) { _ in .init(200, headers: headers, text: text) }
    }

    /// Content is answered by this from now on.
    func answerContent(_ rule: Route?) { shared.state.withLock { $0.contentRule = rule } }

    /// Signed URLs made so far are refused.
    func expireSignatures() { shared.state.withLock { $0.signature += 1 } }

    /// Routes the large file, with these headers in the redirect.
    func routeLarge(_ headers: [(name: String, value: String)] = [("X-Repo-Commit", ScriptedHub.commit)]) {
        let place = content.url
        let shared = shared
        route("/org/name/resolve/\(Self.commit)/large.bin") { _ in
            let signature = shared.state.withLock { $0.signature }
            return .init(302, headers: headers + [("Location", "\(place)/large?Signature=s\(signature)")])
        }
    }

    func client(
        _ variables: [String: String] = ["HF_TOKEN": "hf_secret"], pauses: Pauses = Pauses()
    ) throws -> HubClient {
        let environment = Environment(["HF_ENDPOINT": hub.url, "HOME": "/nonexistent"].merging(variables) { $1 })
        var retries = HubClient.standardRetries
        retries.sleep = { pauses.add($0) }
        retries.random = { 0 }
        // The client's time passes with the waits.
        return try HubClient(
            environment: environment, http: HTTPClient { ContinuousClock.now + pauses.sum }, retries: retries)
    }

    func origin(
        _ reference: String = "hf://org/name", _ variables: [String: String] = ["HF_TOKEN": "hf_secret"],
        pauses: Pauses = Pauses()
    ) throws -> HubOrigin {
        try HubOrigin(
            reference, client: try client(variables, pauses: pauses), logger: Logger(label: "test"), now: { 1_000_000 })
    }

    func largeSource(now: @escaping @Sendable () -> Int64 = { 1_000_000 }) throws -> HubFileSource {
        let file = HubFile(
            repository: HubRepository(kind: .model, id: "org/name"), commit: Self.commit, path: "large.bin",
            size: UInt64(Self.large.count), etag: Self.sha256, isLarge: true)
        return HubFileSource(file, client: try client(), now: now)
    }

    var resolves: Int { hub.requests.filter { $0.target.contains("/resolve/") }.count }
}

/// Waits that were asked for, none of which was made.
final class Pauses: Sendable {
    private let collected = Lock<[Duration]>([])
    func add(_ duration: Duration) { collected.withLock { $0.append(duration) } }
    var all: [Duration] { collected.withLock { $0 } }
    var sum: Duration { all.reduce(.zero, +) }
}

final class HubSink: ByteSink {
    private let collected = Lock<[UInt8]>([])
    var bytes: [UInt8] { collected.withLock { $0 } }
    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        collected.withLock { $0.append(contentsOf: bytes) }
    }
}

extension ByteSource {
    /// The bytes of `range`.
    func hubBytes(_ range: Range<UInt64>) throws -> [UInt8] {
        let sink = HubSink()
        try read(ByteRange(range.lowerBound, range.upperBound), deadline: hubDeadline, into: sink)
        return sink.bytes
    }
}

/// Long enough for anything that works.
var hubDeadline: Deadline { Deadline(after: .seconds(30)) }

/// The error that `body` throws.
func hubFailure(_ body: () throws -> Void, _ location: SourceLocation = #_sourceLocation) -> MCFSError? {
    do {
        try body()
        Issue.record("nothing was thrown", sourceLocation: location)
    } catch let error as MCFSError {
        return error
    } catch {
        Issue.record("another error: \(error)", sourceLocation: location)
    }
    return nil
}
