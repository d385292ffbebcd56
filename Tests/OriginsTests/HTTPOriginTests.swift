import Catalog
import MCFSCore
import MCFSTestSupport
import Testing
import Transport

@testable import Origins

@Suite("Web origin", .timeLimit(.minutes(5)))
struct HTTPOriginTests {
    typealias Answer = ScriptedServer.Answer

    private static let content = pattern(50_000)
    private static let modified = "Sun, 06 Nov 1994 08:49:37 GMT"
    let scratch = ScratchFolder()

    private func origin(_ reference: String) throws(MCFSError) -> HTTPOrigin {
        try HTTPOrigin(reference, environment: Environment([:]), http: HTTPClient(), logger: quietLogger)
    }

    private func load(_ reference: String) throws -> (
        tree: Tree, origin: HTTPOrigin, resolution: Catalog.Resolution
    ) {
        let origin = try origin(reference)
        let resolution = try origin.resolve(deadline: Deadline(after: .seconds(20)))
        return (try origin.tree(of: resolution, loading: try scratchLoading(scratch)), origin, resolution)
    }

    /// Reads a range of a file of a tree.
    private func read(
        _ path: String, _ range: ByteRange, of loaded: (tree: Tree, origin: HTTPOrigin, resolution: Catalog.Resolution)
    ) throws -> [UInt8] {
        let entry = try #require(loaded.tree.entry(at: TreePath(path)))
        let content = try #require(loaded.tree.content(of: entry))
        let source = try loaded.origin.source(loaded.tree.sources[content.source], of: loaded.resolution)
        let sink = CollectingSink()
        try source.read(range, deadline: Deadline(after: .seconds(3)), into: sink)
        return sink.bytes
    }

    private func resolveError(_ reference: String) -> MCFSError? {
        refusal { () throws(MCFSError) in
            _ = try origin(reference).resolve(deadline: Deadline(after: .seconds(3)))
        }
    }

    @Test("one file is a tree of its name, size and time, and is read in ranges of its version")
    func file() throws {
        let server = try ScriptedServer { request in
            .file(Self.content, for: request, etag: "\"v1\"", headers: [("Last-Modified", Self.modified)])
        }
        let loaded = try load(server.url + "/folder/model.bin?version=1")
        #expect(loaded.tree.listing == ["model.bin"])
        let attributes = loaded.tree.attributes(of: 1)
        #expect(attributes.size == 50_000 && attributes.modified.seconds == 784_111_777)
        #expect(try read("model.bin", ByteRange(100, 300), of: loaded) == Array(Self.content[100..<300]))
        let last = try #require(server.requests.last)
        #expect(last["Range"] == "bytes=100-299" && last["If-Range"] == "\"v1\"" && last.query == "version=1")
        // The same again is the same tree.
        #expect(
            try origin(server.url + "/folder/model.bin?version=1").resolve(deadline: .soon).treeKey
                == loaded.resolution.treeKey)
    }

    @Test("a file that changes after it was resolved is an error, never a mixture")
    func changed() throws {
        let version = Guarded("\"v1\"")
        let server = try ScriptedServer { request in .file(Self.content, for: request, etag: version.withLock { $0 }) }
        let loaded = try load(server.url + "/a")
        version.withLock { $0 = "\"v2\"" }
        let error = #expect(throws: MCFSError.self) { try read("a", ByteRange(0, 10), of: loaded) }
        #expect(error?.code == .changed)
    }

    @Test(
        "a weak ETag and a date are compared with every answer",
        arguments: [
            (["ETag": "W/\"v1\""], ["ETag": "W/\"v2\""]), (["ETag": "W/\"v1\""], [:]),
            (["Last-Modified": modified], ["Last-Modified": "Sun, 06 Nov 1994 08:49:38 GMT"]),
        ] as [([String: String], [String: String])])
    func changedWeakly(before: [String: String], after: [String: String]) throws {
        let headers = Guarded(before)
        let server = try ScriptedServer { request in
            .file(Self.content, for: request, headers: headers.withLock { $0 }.map { (name: $0.key, value: $0.value) })
        }
        let loaded = try load(server.url + "/a")
        #expect(try read("a", ByteRange(0, 10), of: loaded) == Array(Self.content[..<10]))
        #expect(server.requests.last?["If-Range"] == nil)
        headers.withLock { $0 = after }
        let error = #expect(throws: MCFSError.self) { try read("a", ByteRange(0, 10), of: loaded) }
        #expect(error?.code == .changed)
    }

    private func keys(_ reference: String) throws -> Set<String> {
        let loaded = try load(reference)
        return [loaded.resolution.treeKey, try #require(loaded.tree.content(of: 1)).id.description]
    }

    @Test("every part of a version and of the URL is part of the identity; the same again is the same")
    func identity() throws {
        struct File {
            var bytes = Self.content
            var etag = "\"v1\""
            var modified = HTTPOriginTests.modified
            static let content = pattern(1000)
        }
        let file = Guarded(File())
        let server = try ScriptedServer { request in
            let file = file.withLock { $0 }
            return .file(
                file.bytes, for: request, headers: [("ETag", file.etag), ("Last-Modified", file.modified)])
        }
        var seen = try keys(server.url + "/a?key=1")
        #expect(try keys(server.url + "/a?key=1") == seen)
        for other in ["/b?key=1", "/a?key=2", "/a", "/a?key=1&x=2", "/a?x=2", "/a?X-Amz-Signature=1"] {
            let now = try keys(server.url + other)
            #expect(now.isDisjoint(with: seen), "\(other)")
            seen.formUnion(now)
        }
        let changes: [(inout File) -> Void] = [
            { $0.bytes.append(1) }, { $0.etag = "\"v2\"" }, { $0.etag = "W/\"v2\"" }, { $0.etag = "W/\"v3\"" },
            { $0.modified = "Sun, 06 Nov 1994 08:49:38 GMT" },
        ]
        for change in changes {
            file.withLock { change(&$0) }
            let now = try keys(server.url + "/a?key=1")
            #expect(now.isDisjoint(with: seen))
            seen.formUnion(now)
        }
    }

    @Test("two URLs that differ in a query that looks like a secret stay two, and show none of it")
    func secretQuery() throws {
        let server = try ScriptedServer { request in .file(Self.content, for: request, etag: "\"v1\"") }
        let (a, b) = (try load(server.url + "/a?token=alpha"), try load(server.url + "/a?token=beta"))
        #expect(a.origin.reference != b.origin.reference)
        for loaded in [a, b] {
            #expect(try read("a", ByteRange(0, 10), of: loaded) == Array(Self.content[..<10]))
            let shown = "\(loaded.resolution) \(loaded.tree.sources[0].properties)"
            #expect(!shown.contains("alpha") && !shown.contains("beta"))
        }
        #expect(server.requests.last?.query == "token=beta")
        let text = Reference.withoutPassword("sub=\(server.url)/a?token=alpha")
        #expect(text == "sub=\(a.origin.reference)")
    }

    @Test("a file without any validator is a version of its own at each resolution, and the user is told")
    func noValidator() throws {
        let server = try ScriptedServer { request in .file(Self.content, for: request) }
        #expect(try keys(server.url + "/a").isDisjoint(with: keys(server.url + "/a")))
        let origin = try origin(server.url + "/a")
        let resolution = try origin.resolve(deadline: .soon)
        let warnings = Warnings()
        let tree = try origin.tree(of: resolution, loading: try scratchLoading(scratch, progress: warnings))
        #expect(warnings.all.count == 1 && warnings.all[0].contains("neither ETag nor Last-Modified"))
        #expect(try read("a", ByteRange(0, 10), of: (tree, origin, resolution)) == Array(Self.content[..<10]))
    }

    @Test("a part that is sent under a status of 200 tells the size of the whole")
    func partUnder200() throws {
        let server = try ScriptedServer { request in
            var answer = Answer.file(Self.content, for: request, etag: "\"v1\"")
            if answer.status == 206 { answer.status = 200 }
            return answer
        }
        let loaded = try load(server.url + "/a")
        #expect(loaded.tree.attributes(of: 1).size == 50_000)
        #expect(try read("a", ByteRange(49_990, 50_000), of: loaded) == Array(Self.content[49_990...]))
    }

    @Test("a body without a length that goes on behind the resolved size is another version")
    func longer() throws {
        let isLonger = Guarded(false)
        let server = try ScriptedServer { request in
            if !isLonger.withLock({ $0 }) { return .file(Self.content, for: request, etag: "\"v1\"") }
            return Answer(
                headers: [("ETag", "\"v1\"")], body: Self.content + pattern(1000), delivery: .untilClose)
        }
        let loaded = try load(server.url + "/a")
        isLonger.withLock { $0 = true }
        let error = #expect(throws: MCFSError.self) { try read("a", ByteRange(49_000, 50_000), of: loaded) }
        #expect(error?.code == .changed)
    }

    @Test("an index is a tree of what it links to below itself; other links are none of it")
    func index() throws {
        let server = try ScriptedServer { request in
            switch request.path {
            case "/top/":
                Answer(
                    headers: [("Content-Type", "text/html")],
                    text: """
                        <html><body><a href="../">up</a> <a href="/">root</a> <a href="?C=N;O=D">sorted</a>
                        <a href="http://example.org/other">other</a> <a href="javascript:void(0)">no</a>
                        <a href="a%20b.txt">a b</a> <a href="./a%20b.txt">again</a> <a href="/top/sub/">sub</a>
                        <a href="%2e%2e%2fetc">evil</a> <a href="x%00y">nul</a> <a href="mailto:x@y">m</a></body></html>
                        """)
            case "/top/sub/":
                Answer(headers: [("Content-Type", "text/html")], text: "<a href=\"c.bin\">c</a> <a href=\"..\">up</a>")
            case "/top/a%20b.txt", "/top/sub/c.bin": .file(Self.content, for: request, etag: "\"v1\"")
            default: Answer(404)
            }
        }
        let loaded = try load(server.url + "/top/")
        #expect(loaded.tree.listing.sorted() == ["a b.txt", "sub/", "sub/c.bin"])
        #expect(try read("sub/c.bin", ByteRange(0, 5), of: loaded) == Array(Self.content[..<5]))
    }

    @Test(
        "what cannot be mounted is said in one sentence",
        arguments: [
            (Answer(401), MCFSError.Code.unauthorized), (Answer(403), .unauthorized), (Answer(404), .notFound),
            (Answer(410), .notFound), (Answer(301), .originUnavailable),
            (Answer(302, headers: [("Location", "ftp://example.org/x")]), .originUnavailable),
            (Answer(302, headers: [("Location", "/loop")]), .originUnavailable),
            (Answer(200, headers: [("Content-Encoding", "gzip")], body: [1, 2, 3]), .originUnavailable),
            (Answer(500), .originUnavailable), (Answer(delivery: .closeAtOnce), .originUnavailable),
        ])
    func refusals(answer: Answer, code: MCFSError.Code) throws {
        let server = try ScriptedServer { _ in answer }
        let error = try #require(resolveError(server.url + "/loop"))
        #expect(error.code == code || error.code == .timedOut && code == .originUnavailable, "\(error)")
        #expect(!error.message.contains("\n") && error.message.contains("127.0.0.1"), "\(error.message)")
    }

    @Test("a page to log in is neither a file nor an empty folder; pages and empty indexes are")
    func loginPage() throws {
        let form = "<html><!-- <a> --><FORM action='/login'><input name=user></form><a href='/help'>help</a></html>"
        let server = try ScriptedServer { request in
            let text = request.path.hasPrefix("/open") ? "<html><a href='../'>up</a></html>" : form
            return Answer(headers: [("Content-Type", "text/html; charset=utf-8")], text: text)
        }
        for path in ["/models/", "/models/weights.safetensors"] {
            let error = resolveError(server.url + path)
            #expect(error?.code == .originUnavailable && error?.message.contains("log in") == true, "\(path)")
        }
        for path in ["/open/", "/page.html", "/page"] { #expect(resolveError(server.url + path) == nil, "\(path)") }
    }

    @Test(
        "a size that nothing has is corrupt, and no reason to read the file to its end",
        arguments: [
            (206, "Content-Range", "bytes 0-0/70368744177665"),
            (206, "Content-Range", "bytes 0-0/18446744073709551615"),
            (206, "Content-Range", "bytes 0-0/99999999999999999999999"),
            (200, "Content-Range", "bytes 0-0/9223372036854775808"),
        ])
    func hugeSizes(status: Int, header: String, value: String) throws {
        let server = try ScriptedServer { _ in Answer(status, headers: [(header, value)], body: [1]) }
        #expect(resolveError(server.url + "/f.bin")?.code == .corrupt)
        #expect(server.requests.count == 1)
    }

    @Test("an index of more links than a tree may have, or of one that is too deep, is refused while it is read")
    func hugeIndexes() throws {
        let pages = [
            "/many/": String(repeating: "<a href='../x'>", count: HTTPIndex.linksMax + 1),
            "/deep/": "<a href='\(String(repeating: "a/", count: 100_000))'>",
        ]
        let server = try ScriptedServer { request in
            Answer(headers: [("Content-Type", "text/html")], text: pages[request.path] ?? "")
        }
        for path in pages.keys {
            let error = refusal { () throws(MCFSError) in
                _ = try origin(server.url + path).resolve(deadline: Deadline(after: .seconds(60)))
            }
            #expect(error?.code == .unsupported, "\(path): \(String(describing: error))")
            #expect((error?.message.utf8.count ?? 0) < 600)
        }
    }

    @Test("a folder without an index, and a server that is not there, are said")
    func nothingThere() throws {
        let server = try ScriptedServer { _ in Answer(headers: [("Content-Type", "application/json")], text: "{}") }
        #expect(resolveError(server.url + "/folder/")?.code == .usage)
        let url = server.url
        server.stop()
        let error = try #require(resolveError(url + "/a"))
        #expect(error.code == .originUnavailable || error.code == .timedOut)
        for malformed in ["http://", "http:///x", "https://host name/x", "http://host:99999/x"] {
            #expect(refusal { () throws(MCFSError) in _ = try origin(malformed) }?.code == .usage, "\(malformed)")
        }
    }

    @Test("the password of a URL goes to its server alone")
    func password() throws {
        let other = try ScriptedServer { request in .file(Self.content, for: request, etag: "\"v1\"") }
        let otherURL = other.url
        let server = try ScriptedServer { request in
            request["Authorization"] == "Basic cmVhZGVyOnBhc3M="
                ? Answer(302, headers: [("Location", otherURL + "/x")]) : Answer(401)
        }
        let reference = server.url.replacing("http://", with: "http://reader:pass@") + "/secret.bin"
        let loaded = try load(reference)
        #expect(try read("secret.bin", ByteRange(0, 5), of: loaded) == Array(Self.content[..<5]))
        #expect(other.requests.allSatisfy { $0["Authorization"] == nil } && !other.requests.isEmpty)
        #expect(!loaded.resolution.resolved.contains("pass") && !loaded.origin.reference.contains("pass"))
    }

    @Test("a server without ranges is read from the first byte to the last")
    func noRanges() throws {
        let server = try ScriptedServer { _ in Answer(headers: [("ETag", "\"v1\"")], body: Self.content) }
        let loaded = try load(server.url + "/a")
        #expect(loaded.tree.attributes(of: 1).size == 50_000)
        let content = try #require(loaded.tree.content(of: 1))
        let source = try loaded.origin.source(loaded.tree.sources[content.source], of: loaded.resolution)
        #expect(!source.hasRandomAccess)
        #expect(try read("a", ByteRange(0, 50_000), of: loaded) == Self.content)
    }
}
