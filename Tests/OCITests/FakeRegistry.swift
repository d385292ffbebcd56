import Foundation
import Logging
import MCFSCore
import MCFSTestSupport
import Synchronization
import Transport

@testable import OCI

/// A registry with one repository `team/cache`, whose parts tests change while it runs.
final class FakeRegistry: Sendable {
    struct Content: Sendable {
        var manifests: [String: [UInt8]] = [:]
        var blobs: [String: [UInt8]] = [:]
        /// What `Authorization` must be; nil: anything.
        var authorization: String?
        /// For the 401 answer.
        var challenge = #"Basic realm="r""#
        /// Answers before anything else is looked at.
        var script: (@Sendable (ScriptedServer.Request) -> ScriptedServer.Answer?)?
    }

    let server: ScriptedServer
    private let content: Shared

    private final class Shared: Sendable {
        let value = Lock(Content())
    }

    init() throws {
        let shared = Shared()
        content = shared
        server = try ScriptedServer { request in Self.answer(request, shared.value.withLock { $0 }) }
    }

    var authority: String { "127.0.0.1:\(server.port)" }

    func change(_ body: @Sendable (inout Content) -> Void) { content.value.withLock { body(&$0) } }

    /// - Returns: a descriptor in JSON.
    @discardableResult
    func add(blob: [UInt8]) -> Digest {
        let digest = Digest.sha256(of: blob)
        change { $0.blobs[digest.description] = blob }
        return digest
    }

    @discardableResult
    func add(manifest: String, tag: String? = nil) -> Digest {
        let bytes = Array(manifest.utf8)
        let digest = Digest.sha256(of: bytes)
        change {
            $0.manifests[digest.description] = bytes
            if let tag { $0.manifests[tag] = bytes }
        }
        return digest
    }

    /// Requests as `METHOD PATH`.
    var log: [String] {
        server.requests.map { "\($0.method) \($0.target.replacingOccurrences(of: "/v2/team/cache/", with: ""))" }
    }

    private static func answer(_ request: ScriptedServer.Request, _ content: Content) -> ScriptedServer.Answer {
        if let answer = content.script?(request) { return answer }
        if let wanted = content.authorization, request["Authorization"] != wanted {
            return .init(401, headers: [("WWW-Authenticate", content.challenge)], text: error("UNAUTHORIZED"))
        }
        let prefix = "/v2/team/cache/"
        guard request.path.hasPrefix(prefix) else { return .init(404, text: error("NAME_UNKNOWN")) }
        let rest = String(request.path.dropFirst(prefix.count))
        if rest.hasPrefix("manifests/"), let bytes = content.manifests[String(rest.dropFirst(10))] {
            let headers = [("Docker-Content-Digest", Digest.sha256(of: bytes).description)]
            return request.method == "HEAD" ? .init(200, headers: headers) : .init(200, headers: headers, body: bytes)
        }
        if rest.hasPrefix("blobs/"), let bytes = content.blobs[String(rest.dropFirst(6))] {
            return .file(bytes, for: request)
        }
        return .init(
            404,
            text: request.method == "HEAD" ? "" : error(rest.hasPrefix("blobs/") ? "BLOB_UNKNOWN" : "MANIFEST_UNKNOWN"))
    }

    static func error(_ code: String) -> String { #"{"errors":[{"code":"\#(code)","message":"m","detail":{}}]}"# }
}

/// A client that waits for nothing between tries.
func makeClient(
    _ image: String, environment: [String: String] = [:], slept: @escaping @Sendable (Duration) -> Void = { _ in }
) throws -> RegistryClient {
    var retries = RegistryClient.Retries()
    let time = Log<Duration>()
    retries.sleep = {
        slept($0)
        time.append($0)
    }
    let variables = ["HOME": "/nonexistent", "MCFS_CERTS_DIR": "/nonexistent"].merging(environment) { $1 }
    return try RegistryClient(
        ImageReference(image), environment: Environment(variables),
        // The client's time passes with the waits.
        http: HTTPClient { ContinuousClock.now + time.all.reduce(.zero, +) }, logger: Logger(label: "test"),
        retries: retries)
}

/// Reads a range as bytes.
func read(_ source: any ByteSource, _ range: ByteRange, within time: Duration = .seconds(20)) throws(MCFSError)
    -> [UInt8]
{
    let sink = BoundedSink(bytesMax: 1 << 24, what: "a test's read")
    try source.read(range, deadline: Deadline(after: time), into: sink)
    return sink.bytes
}
