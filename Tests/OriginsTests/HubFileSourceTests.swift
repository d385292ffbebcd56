import Dispatch
import MCFSCore
import MCFSTestSupport
import Synchronization
import Testing
import Transport

@testable import Origins

@Suite("HubFileSource", .timeLimit(.minutes(5)))
struct HubFileSourceTests {
    private let commit = ScriptedHub.commit

    @Test("a large file is resolved once for all readers, and its host never sees the token")
    func resolvedOnce() throws {
        let scripted = try ScriptedHub()
        scripted.routeLarge([
            ("X-Repo-Commit", commit), ("X-Linked-Size", "5000"), ("X-Linked-Etag", "\"\(ScriptedHub.sha256)\""),
        ])
        let source = try scripted.largeSource()
        let results = Lock<[Bool]>([])
        DispatchQueue.concurrentPerform(iterations: 8) { index in
            let start = UInt64(index) * 600
            let bytes = try? source.hubBytes(start..<start + 600)
            results.withLock { $0.append(bytes == Array(ScriptedHub.large[Int(start)..<Int(start) + 600])) }
        }
        #expect(results.withLock { $0 } == Array(repeating: true, count: 8))
        #expect(scripted.resolves == 1)
        #expect(scripted.content.requests.count == 8)
        #expect(
            scripted.content.requests.allSatisfy { $0["Authorization"] == nil && $0["Accept-Encoding"] == "identity" })
        let resolve = try #require(scripted.hub.requests.first)
        #expect(resolve["Authorization"] == "Bearer hf_secret" && resolve["Range"] != nil)
    }

    @Test("a signed URL that was refused is renewed", arguments: [400, 401, 403, 404])
    func renewed(status: Int) throws {
        let scripted = try ScriptedHub()
        scripted.routeLarge()
        let source = try scripted.largeSource()
        #expect(try source.hubBytes(0..<4) == Array(ScriptedHub.large[0..<4]))
        scripted.expireSignatures()
        scripted.answerContent { request in
            request.query == "Signature=s2" ? .file(ScriptedHub.large, for: request) : .init(status)
        }
        #expect(try source.hubBytes(4..<9) == Array(ScriptedHub.large[4..<9]))
        #expect(scripted.resolves == 2)
    }

    @Test("a signed URL is renewed before it expires")
    func expired() throws {
        let scripted = try ScriptedHub()
        let place = scripted.content.url
        scripted.answerContent { .file(ScriptedHub.large, for: $0) }
        scripted.route("/org/name/resolve/\(commit)/large.bin") { _ in
            .init(302, headers: [("Location", place + "/large?Expires=2000&Signature=x")])
        }
        let clock = Clock()
        let source = try scripted.largeSource(now: { clock.now })
        _ = try source.hubBytes(0..<4)
        _ = try source.hubBytes(4..<8)
        #expect(scripted.resolves == 1)
        clock.now = 1980
        _ = try source.hubBytes(8..<12)
        #expect(scripted.resolves == 2)
    }

    @Test("a new signed URL that is refused is an error, which does not show the URL", arguments: [400, 401, 403, 404])
    func refused(status: Int) throws {
        let scripted = try ScriptedHub()
        scripted.routeLarge()
        scripted.answerContent { request in .init(status, text: "refused \(request.target)") }
        let source = try scripted.largeSource()
        let error = hubFailure { _ = try source.hubBytes(0..<4) }
        #expect(error?.code == .originUnavailable)
        #expect(error?.message.contains("Signature") == false && error?.message.contains("hf_secret") == false)
        #expect(scripted.resolves == 2)
    }

    @Test(
        "no trouble with the content host shows the signed URL",
        arguments: [
            .init(503, headers: [("Retry-After", "2")]), .init(500, text: "x"), .init(416), .init(302), .init(206),
            .init(206, headers: [("Content-Range", "bytes 0-3/77")], body: [1, 2, 3, 4]),
            .init(200, body: [1, 2, 3]), .init(delivery: .closeAtOnce), .init(delivery: .resetAtOnce),
            .init(200, headers: [("Content-Encoding", "gzip")], body: [1]),
            .init(301, headers: [("Location", "/large?Signature=loop")]),
        ] as [ScriptedServer.Answer])
    func troubles(answer: ScriptedServer.Answer) throws {
        let scripted = try ScriptedHub()
        scripted.routeLarge()
        scripted.answerContent { _ in answer }
        let source = try scripted.largeSource()
        let error = hubFailure { _ = try source.hubBytes(0..<4) }
        #expect(error?.message.contains("Signature") == false, "\(error?.message ?? "")")
    }

    @Test(
        "an answer about another commit, size or content is refused",
        arguments: [
            ("X-Repo-Commit", "ffffffffffffffffffffffffffffffffffffffff"), ("X-Linked-Size", "4999"),
            ("X-Linked-Size", "x"),
            ("X-Linked-Etag", "W/\"00\""),
        ])
    func changed(name: String, value: String) throws {
        let scripted = try ScriptedHub()
        scripted.routeLarge([(name, value)])
        let source = try scripted.largeSource()
        let error = hubFailure { _ = try source.hubBytes(0..<4) }
        #expect(error?.code == .changed)
        #expect(scripted.content.requests.isEmpty)
    }

    @Test("a file that the Hub answers itself is read there, redirects on it followed with the token")
    func direct() throws {
        let scripted = try ScriptedHub()
        scripted.route("/datasets/org/name/resolve/\(commit)/a%20b/%C3%BC%23.json") { _ in
            .init(307, headers: [("Location", "/api/resolve-cache/x?etag=1"), ("X-Repo-Commit", ScriptedHub.commit)])
        }
        scripted.route("/api/resolve-cache/x?etag=1") { .file(Array("0123456789".utf8), for: $0) }
        let file = HubFile(
            repository: HubRepository(kind: .dataset, id: "org/name"), commit: commit, path: "a b/ü#.json", size: 10,
            etag: "x",
            isLarge: false)
        let source = HubFileSource(file, client: try scripted.client(), now: { 0 })
        #expect(try source.hubBytes(2..<5) == Array("234".utf8))
        #expect(try source.hubBytes(0..<10) == Array("0123456789".utf8))
        #expect(try source.hubBytes(3..<3) == [])
        #expect(scripted.hub.requests.count == 4)
        #expect(scripted.hub.requests.allSatisfy { $0["Authorization"] == "Bearer hf_secret" })
        #expect(scripted.content.requests.isEmpty)
    }

    @Test("a large file that the Hub answers itself, as mirrors do, is read there")
    func directLarge() throws {
        let scripted = try ScriptedHub()
        scripted.route("/org/name/resolve/\(commit)/large.bin") {
            .init(200, body: $0.method == "GET" ? ScriptedHub.large : [])
        }
        let source = try scripted.largeSource()
        #expect(try source.hubBytes(100..<110) == Array(ScriptedHub.large[100..<110]))
        #expect(try source.hubBytes(0..<10) == Array(ScriptedHub.large[0..<10]))
    }

    @Test("readers that wait get the refusal that the resolving one got, and the next read asks again")
    func sharedRefusal() throws {
        let scripted = try ScriptedHub()
        scripted.route("/org/name/resolve/\(commit)/large.bin") { _ in
            .init(403, headers: [("X-Error-Code", "GatedRepo")])
        }
        let source = try scripted.largeSource()
        let codes = Lock<[MCFSError.Code?]>([])
        DispatchQueue.concurrentPerform(iterations: 4) { _ in
            let error = hubFailure { _ = try source.hubBytes(0..<4) }
            codes.withLock { $0.append(error?.code) }
        }
        #expect(codes.withLock { $0 } == Array(repeating: .unauthorized, count: 4))
        scripted.routeLarge()
        #expect(try source.hubBytes(0..<4) == Array(ScriptedHub.large[0..<4]))
    }

    @Test("a reader that waits for another's resolving gives up at its deadline")
    func waitsNoLonger() throws {
        let resolving = HubResolving()
        let error = hubFailure { try resolving.wait(Deadline(after: .milliseconds(5)), "x") }
        #expect(error?.code == .timedOut)
        resolving.finish(nil)
        try resolving.wait(hubDeadline, "x")
    }

    @Test("a cut transfer goes on where it ended, each byte delivered once")
    func resumed() throws {
        let scripted = try ScriptedHub()
        scripted.routeLarge()
        let cut = Cut()
        scripted.answerContent { request in
            let answer = ScriptedServer.Answer.file(ScriptedHub.large, for: request)
            return cut.takeFirst() ? answer.delivered(.close(after: 1000)) : answer
        }
        let source = RetryingSource(try scripted.largeSource())
        #expect(try source.hubBytes(0..<5000) == ScriptedHub.large)
        #expect(scripted.resolves == 1)
        #expect(scripted.content.requests.last?["Range"] == "bytes=1000-4999")
    }
}

private final class Clock: Sendable {
    private let value = Lock<Int64>(1000)
    var now: Int64 {
        get { value.withLock { $0 } }
        set { value.withLock { $0 = newValue } }
    }
}

private final class Cut: Sendable {
    private let isFirst = Lock(true)
    func takeFirst() -> Bool {
        isFirst.withLock { isFirst in
            defer { isFirst = false }
            return isFirst
        }
    }
}
