import Glibc
import MCFSCore
import MCFSTestSupport
import Synchronization
import Testing

@testable import Transport

@Suite("HTTPClient", .timeLimit(.minutes(5)))
struct HTTPClientTests {
    let client = HTTPClient()

    @Test("an answer has status, headers and body, whatever its framing", arguments: [0, 1, 999, 100_000])
    func framing(size: Int) throws {
        let content = pattern(size)
        let server = try ScriptedServer { request in
            let answer = ScriptedServer.Answer(203, headers: [("X-Name", "a: b"), ("x-name", "second")], body: content)
            return switch request.path {
            case "/chunked": answer.delivered(.chunked)
            case "/close": answer.delivered(.untilClose)
            default: answer
            }
        }
        for path in ["/", "/chunked", "/close"] {
            let response = try client.perform(HTTPRequest("GET", server.url + path), deadline: .soon)
            #expect(response.status == 203)
            #expect(response["X-NAME"] == "a: b")
            #expect(response.body == content)
        }
    }

    @Test("method, headers, body and the exact URL go over the wire")
    func request() throws {
        let server = try ScriptedServer { _ in ScriptedServer.Answer(204) }
        let target = "/a//b/../c%2Fd%20e?x=%2B&y=a+b&z"
        for (method, body) in [
            ("GET", nil), ("POST", Array("text".utf8)), ("PUT", pattern(3000)), ("DELETE", nil), ("POST", []),
        ] {
            let headers = [("Authorization", "Bearer s3cret"), ("X-Empty", "")]
            let response = try client.perform(
                HTTPRequest(method, server.url + target, headers: headers, body: body), deadline: .soon)
            #expect(response.status == 204)
            let request = try #require(server.requests.last)
            #expect(request.method == method)
            #expect(request.target == target)
            #expect(request["Authorization"] == "Bearer s3cret")
            #expect(request["X-Empty"] == "")
            #expect(request["Content-Type"] == nil)
            #expect(request["Expect"] == nil)
            #expect(request["Accept-Encoding"] == nil)
            #expect(request.body == body ?? [])
        }
        #expect(server.connectionCount == 1, "a lone caller finds its connection again")
    }

    @Test("HEAD has headers and no body")
    func head() throws {
        let server = try ScriptedServer { request in .file(pattern(5000), for: request, etag: "\"v\"") }
        let response = try client.perform(HTTPRequest("HEAD", server.url), deadline: .soon)
        #expect(response["Content-Length"] == "5000")
        #expect(response["ETag"] == "\"v\"")
        #expect(response.body.isEmpty)
    }

    @Test("redirects are handed to the caller")
    func redirect() throws {
        let server = try ScriptedServer { _ in ScriptedServer.Answer(307, headers: [("Location", "/elsewhere")]) }
        let response = try client.perform(HTTPRequest("GET", server.url), deadline: .soon)
        #expect(response.status == 307)
        #expect(response["Location"] == "/elsewhere")
        #expect(server.requests.count == 1)
    }

    @Test("a sink takes the body, and sees the final head first")
    func sink() throws {
        let server = try ScriptedServer { request in .file(pattern(3_000_000), for: request) }
        let sink = CollectingSink()
        let heads = Lock<[Int]>([])
        let response = try client.perform(
            HTTPRequest("POST", server.url, headers: [("Expect", "100-continue")], body: pattern(10)), deadline: .soon
        ) { response in
            heads.withLock { $0.append(response.status) }
            return sink
        }
        #expect(heads.withLock { $0 } == [200], "100 Continue is no answer")
        #expect(response.body.isEmpty)
        #expect(sink.bytes == pattern(3_000_000))
    }

    @Test("what the sink or receive throws ends the transfer and comes out of perform; the client works on")
    func throwing() throws {
        let server = try ScriptedServer { request in .file(pattern(3_000_000), for: request) }
        let sink = CollectingSink(limit: 100_000)
        let first = failure { () throws(MCFSError) in
            _ = try client.perform(HTTPRequest("GET", server.url), deadline: .soon) { _ in sink }
        }
        #expect(first?.code == .noSpace)
        #expect(first?.message == CollectingSink.failure.message)
        let second = failure { () throws(MCFSError) in
            _ = try client.perform(HTTPRequest("GET", server.url), deadline: .soon) { _ throws(MCFSError) in
                throw MCFSError(.changed, "not this one")
            }
        }
        #expect(second?.code == .changed)
        #expect(try client.perform(HTTPRequest("GET", server.url), deadline: .soon).body.count == 3_000_000)
    }

    @Test(
        "an answer that breaks off is a transient error that names the host only",
        arguments: [
            (ScriptedServer.Answer.Delivery.close(after: 10), "sent 10 of 1000 bytes"),
            (.reset(after: 0), "127.0.0.1"),
            (.closeAtOnce, "closed the connection without an answer"),
            (.resetAtOnce, "was reset"),
        ])
    func broken(delivery: ScriptedServer.Answer.Delivery, text: String) throws {
        let server = try ScriptedServer { _ in ScriptedServer.Answer(body: pattern(1000), delivery: delivery) }
        let error = try #require(
            failure { () throws(MCFSError) in
                _ = try client.perform(HTTPRequest("GET", server.url + "/file?X-Amz-Signature=abcdef"), deadline: .soon)
            })
        #expect(error.code == .originUnavailable)
        #expect(error.isTransient)
        #expect(error.message.contains(text), "\(error.message)")
        #expect(error.message.contains("127.0.0.1:\(server.port)"))
        #expect(!error.message.contains("abcdef"))
    }

    @Test("a refused connection is a transient error")
    func refused() throws {
        let server = try ScriptedServer { _ in ScriptedServer.Answer() }
        let url = server.url
        server.stop()
        let error = failure { () throws(MCFSError) in _ = try client.perform(HTTPRequest("GET", url), deadline: .soon) }
        #expect(error?.code == .originUnavailable)
        #expect(error?.isTransient == true)
        #expect(error?.message.contains("refused") == true, "\(error?.message ?? "")")
    }

    @Test("something that is not HTTP is an error")
    func notHTTP() throws {
        let error = failure { () throws(MCFSError) in
            _ = try client.perform(HTTPRequest("GET", "file:///etc/passwd"), deadline: .soon)
        }
        #expect(error?.code == .usage)
    }

    @Test("URLs and headers that would change the request are refused, and their values not shown")
    func injection() throws {
        let server = try ScriptedServer { _ in ScriptedServer.Answer() }
        for request in [
            HTTPRequest("GET", server.url + "/a b"), HTTPRequest("GET", server.url + "/a\r\nX: y"),
            HTTPRequest("GET", server.url, headers: [("Authorization", "Bearer hush\n")]),
            HTTPRequest("GET", server.url, headers: [("A: b", "c")]), HTTPRequest("GE T", server.url),
        ] {
            let error = try #require(
                failure { () throws(MCFSError) in _ = try client.perform(request, deadline: .soon) })
            #expect(!error.isTransient)
            #expect(!error.message.contains("hush"))
        }
        #expect(server.requests.isEmpty)
    }

    @Test(
        "a server that falls silent costs the deadline and no more",
        arguments: [ScriptedServer.Answer.Delivery.stallAtOnce, .stall(after: 0), .stall(after: 500)])
    func stall(delivery: ScriptedServer.Answer.Delivery) throws {
        let server = try ScriptedServer { _ in ScriptedServer.Answer(body: pattern(1000), delivery: delivery) }
        let start = ContinuousClock.now
        let error = failure { () throws(MCFSError) in
            _ = try client.perform(HTTPRequest("GET", server.url), deadline: Deadline(after: .milliseconds(100)))
        }
        #expect(error?.code == .timedOut)
        #expect(ContinuousClock.now - start < .milliseconds(600))
        #expect(ContinuousClock.now - start >= .milliseconds(100))
    }

    @Test(
        "a server that asks to be left alone is asked by nobody until then",
        arguments: [
            (429, "Retry-After", "300"), (503, "Retry-After", "300"), (503, "x-amz-retry-after", "300000"),
            (429, "RateLimit", "\"resolvers\";r=0;t=299"),
        ])
    func leftAlone(status: Int, name: String, value: String) throws {
        let passed = Lock(Duration.zero)
        let client = HTTPClient { ContinuousClock.now + passed.withLock { $0 } }
        let limited = try ScriptedServer { _ in .init(status, headers: [(name, value)]) }
        let other = try ScriptedServer { _ in .init() }
        #expect(try client.perform(HTTPRequest("GET", limited.url + "/a"), deadline: .soon).status == status)
        let error = failure { () throws(MCFSError) in
            _ = try client.perform(HTTPRequest("GET", limited.url + "/b"), deadline: .soon)
        }
        #expect(error?.code == .originUnavailable && error?.isTransient == true)
        #expect(error.flatMap(\.retryAfter).map { $0 <= .seconds(300) && $0 > .seconds(200) } == true)
        #expect(error?.message.contains("HTTP \(status) and asked for no requests before") == true)
        #expect(limited.requests.count == 1)
        // Others are, and whom the limit does not concern may ask.
        #expect(try client.perform(HTTPRequest("GET", other.url), deadline: .soon).status == 200)
        let signed = HTTPRequest("GET", limited.url, headers: [("Authorization", "Bearer other")])
        #expect(try client.perform(signed, deadline: .soon).status == status)
        passed.withLock { $0 = .seconds(301) }
        _ = try client.perform(HTTPRequest("GET", limited.url + "/b"), deadline: .soon)
        #expect(limited.requests.count == 3)
    }

    @Test("a server that begins late is waited for, and one that does not go on is given up")
    func late() throws {
        let client = HTTPClient(threadCount: 1, stallTimeout: .seconds(1))
        let server = try ScriptedServer { request in
            if request.path == "/stall" { return .init(body: pattern(1000), delivery: .stall(after: 500)) }
            usleep(2_500_000)
            return .init(body: pattern(1000))
        }
        #expect(try client.perform(HTTPRequest("GET", server.url), deadline: .soon).body == pattern(1000))
        let error = failure { () throws(MCFSError) in
            _ = try client.perform(HTTPRequest("GET", server.url + "/stall"), deadline: Deadline(after: .seconds(4)))
        }
        #expect(error?.code == .originUnavailable && error?.message.contains("bytes a second for") == true)
    }

    @Test(
        "an error without a time is no request to be left alone, and neither is an answer that fits",
        arguments: [503, 200])
    func notLeftAlone(status: Int) throws {
        let server = try ScriptedServer { _ in .init(status, headers: status == 200 ? [("Retry-After", "300")] : []) }
        for _ in 0..<2 { _ = try client.perform(HTTPRequest("GET", server.url), deadline: .soon) }
        #expect(server.requests.count == 2)
    }

    @Test("a deadline that has passed asks nothing")
    func passed() throws {
        let server = try ScriptedServer { _ in ScriptedServer.Answer() }
        let error = failure { () throws(MCFSError) in
            _ = try client.perform(HTTPRequest("GET", server.url), deadline: Deadline(after: .zero))
        }
        #expect(error?.code == .timedOut)
        #expect(server.requests.isEmpty)
    }

    @Test("a collected body has a bound")
    func bound() throws {
        let server = try ScriptedServer { _ in
            ScriptedServer.Answer(body: [UInt8](repeating: 1, count: HTTPClient.collectedBodyBytesMax + 1))
        }
        let error = failure { () throws(MCFSError) in
            _ = try client.perform(HTTPRequest("GET", server.url), deadline: .soon)
        }
        #expect(error?.code == .originUnavailable)
        #expect(error?.message.contains("longer than 64 MiB") == true)
    }

    @Test("32 callers at once get their own bytes over connections that are used again")
    func parallel() throws {
        let content = pattern(1_000_000)
        let server = try ScriptedServer { request in .file(content, for: request) }
        let failures = Lock<[String]>([])
        try inThreads(32) { index in
            for round in 0..<4 {
                let first = index * 20_000 + round * 1000
                let range = ByteRange(offset: UInt64(first), count: 70_000)
                do throws(MCFSError) {
                    let response = try client.perform(
                        HTTPRequest("GET", server.url, headers: [("Range", "bytes=\(range.httpDescription)")]),
                        deadline: .soon
                    )
                    if response.body != Array(content[first..<first + 70_000]) {
                        failures.withLock { $0.append("wrong bytes") }
                    }
                } catch {
                    failures.withLock { $0.append(error.message) }
                }
            }
        }
        #expect(failures.withLock { $0 } == [])
        #expect(server.requests.count == 128)
        // Each of the two loops has its pool.
        #expect(server.connectionCount <= 64)
    }

    @Test("a Unix socket can be the peer")
    func unixSocket() throws {
        let path = "/tmp/mcfs-transport-\(getpid()).sock"
        defer { unlink(path) }
        let server = try ScriptedServer(unixSocket: path) { request in ScriptedServer.Answer(text: request.target) }
        let response = try client.perform(
            HTTPRequest("GET", "http://mcfs/v1/status", unixSocket: path), deadline: .soon)
        #expect(response.body == Array("/v1/status".utf8))
        server.stop()
        let error = failure { () throws(MCFSError) in
            _ = try client.perform(HTTPRequest("GET", "http://mcfs/v1/status", unixSocket: path), deadline: .soon)
        }
        #expect(error?.message.contains(path) == true)
    }

    @Test("a client that goes away ends its threads, also in its own callback")
    func end() throws {
        let server = try ScriptedServer { _ in ScriptedServer.Answer(text: "x") }
        for _ in 0..<20 {
            #expect(try HTTPClient().perform(HTTPRequest("GET", server.url), deadline: .soon).status == 200)
        }
    }
}

/// Runs `body` in so many threads at once and waits for them.
func inThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) throws {
    final class Box: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var threads: [pthread_t] = []
    for index in 0..<count {
        var thread = pthread_t()
        let box = Unmanaged.passRetained(Box { body(index) })
        let result = pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<Box>.fromOpaque(argument).takeRetainedValue().body() }
                return nil
            }, box.toOpaque())
        try #require(result == 0)
        threads.append(thread)
    }
    for thread in threads { pthread_join(thread, nil) }
}
