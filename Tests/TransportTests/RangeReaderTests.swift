import MCFSCore
import MCFSTestSupport
import Testing
import Transport

private let content = pattern(100_000)

@Suite("RangeReader", .timeLimit(.minutes(5)))
struct RangeReaderTests {
    let client = HTTPClient()
    typealias Answer = ScriptedServer.Answer

    /// Reads 200 bytes at 1000 from a server that answers so.
    private func read(
        _ range: ByteRange = ByteRange(1000, 1200), size: UInt64? = 100_000, etag: String? = "\"v1\"",
        lastModified: String? = nil, headers: [(name: String, value: String)] = [],
        _ handler: @escaping ScriptedServer.Handler
    ) throws -> (result: Result<RangeReader.Outcome, MCFSError>, bytes: [UInt8], requests: [ScriptedServer.Request]) {
        let server = try ScriptedServer(handler)
        let sink = CollectingSink()
        let result = Result { () throws(MCFSError) in
            try RangeReader(client: client).read(
                range, HTTPRequest("GET", server.url + "/f", headers: headers),
                expecting: .init(size: size, etag: etag, lastModified: lastModified), deadline: .soon, into: sink)
        }
        return (result, sink.bytes, server.requests)
    }

    private func code(_ result: Result<RangeReader.Outcome, MCFSError>) -> MCFSError.Code? {
        if case .failure(let error) = result { error.code } else { nil }
    }

    private static func part(
        _ contentRange: String?, bytes: Range<Int> = 1000..<1200, etag: String? = "\"v1\"",
        extra: [(String, String)] = []
    ) -> Answer {
        var headers = extra.map { (name: $0.0, value: $0.1) }
        if let contentRange { headers.append(("Content-Range", contentRange)) }
        if let etag { headers.append(("ETag", etag)) }
        return Answer(206, headers: headers, body: Array(content[bytes]))
    }

    @Test(
        "a range is delivered exactly, chunked or not",
        arguments: [ByteRange(0, 1), ByteRange(1000, 1200), ByteRange(0, 100_000), ByteRange(99_999, 100_000)])
    func ranges(range: ByteRange) throws {
        for delivery in [Answer.Delivery.whole, .chunked, .untilClose] {
            let read = try read(range) { .file(content, for: $0, etag: "\"v1\"").delivered(delivery) }
            #expect(code(read.result) == nil)
            #expect(read.bytes == Array(content[Int(range.lowerBound)..<Int(range.upperBound)]))
            #expect(read.requests.first?["Range"] == "bytes=\(range.httpDescription)")
            #expect(read.requests.first?["Accept-Encoding"] == "identity")
        }
    }

    @Test("a part that says which one it is counts as one under a status of 200 too")
    func partUnder200() throws {
        var answer = Self.part("bytes 1000-1199/100000")
        answer.status = 200
        let right = try read { [answer] _ in answer }
        #expect(code(right.result) == nil)
        #expect(right.bytes == Array(content[1000..<1200]))
        answer = Self.part("bytes 1001-1200/100000")
        answer.status = 200
        let wrong = try read { [answer] _ in answer }
        #expect(code(wrong.result) == .originUnavailable)
    }

    @Test("an encoding is refused, unless it is only noted with what is stored")
    func encodings() throws {
        let answer = Self.part("bytes 1000-1199/100000", extra: [("Content-Encoding", "gzip")])
        #expect(code(try read { _ in answer }.result) == .originUnavailable)
        let server = try ScriptedServer { _ in answer }
        let sink = CollectingSink()
        _ = try RangeReader(client: client).read(
            ByteRange(1000, 1200), HTTPRequest("GET", server.url + "/f"),
            expecting: .init(size: 100_000, etag: "\"v1\"", encodingIsMetadata: true), deadline: .soon, into: sink)
        #expect(sink.bytes == Array(content[1000..<1200]))
    }

    @Test("what is stored in another encoding than it is sent in is for the origin to judge")
    func transcoded() throws {
        let answer = Answer(
            200, headers: [("ETag", "\"v1\""), (RangeReader.storedEncodingHeader, "gzip")], body: pattern(200_000))
        let server = try ScriptedServer { _ in answer }
        let sink = CollectingSink()
        let outcome = try RangeReader(client: client).read(
            ByteRange(1000, 1200), HTTPRequest("GET", server.url + "/f"),
            expecting: .init(size: 100_000, etag: "\"v1\"", encodingIsMetadata: true), accepting: "br", deadline: .soon,
            into: sink)
        guard case .answered(let response) = outcome else { throw MCFSError(.failed, "it was read") }
        #expect(response.status == 200 && sink.bytes.isEmpty)
        #expect(server.requests.first?["Accept-Encoding"] == "br")
    }

    @Test("a weak ETag is compared as such", arguments: ["W/\"v1\"", "\"v1\"", "W/\"v2\"", nil])
    func weak(etag: String?) throws {
        let read = try read(etag: "W/\"v1\"") { _ in Self.part("bytes 1000-1199/100000", etag: etag) }
        #expect(code(read.result) == (etag?.contains("v1") == true ? nil : .changed))
    }

    @Test("a whole that does not say how long it is delivers nothing before its end showed that it is the right one")
    func unknownLength() throws {
        let range = ByteRange(1000, 1200)
        for (body, verified, expected) in [
            (content, false, nil), (pattern(100_001), false, .changed), (pattern(1_500), false, .changed),
            (pattern(100_001), true, nil),
        ] as [([UInt8], Bool, MCFSError.Code?)] {
            let server = try ScriptedServer { _ in Answer(body: body, delivery: .chunked) }
            let sink = CollectingSink()
            let result = Result { () throws(MCFSError) in
                try RangeReader(client: client).read(
                    range, HTTPRequest("GET", server.url), expecting: .init(size: 100_000, isVerified: verified),
                    deadline: .soon, into: sink)
            }
            #expect(code(result) == expected)
            #expect(sink.bytes == (expected == nil ? Array(content[1000..<1200]) : []))
        }
        let server = try ScriptedServer { _ in Answer(body: content, delivery: .chunked) }
        let sink = CollectingSink()
        let error = #expect(throws: MCFSError.self) {
            try RangeReader(client: client).read(
                ByteRange(0, 20 << 20), HTTPRequest("GET", server.url), expecting: .init(size: 20 << 20),
                deadline: .soon,
                into: sink)
        }
        #expect(error?.code == .originUnavailable && sink.bytes.isEmpty)
    }

    @Test("an empty range asks nothing")
    func empty() throws {
        let read = try read(ByteRange(5, 5)) { _ in Answer(500) }
        #expect(code(read.result) == nil)
        #expect(read.requests.isEmpty)
    }

    @Test(
        "a 200 for a range gives the range's bytes of the whole",
        arguments: [ByteRange(0, 10), ByteRange(1000, 1200), ByteRange(90_000, 100_000)])
    func whole(range: ByteRange) throws {
        for delivery in [Answer.Delivery.whole, .chunked, .stall(after: Int(range.upperBound))] {
            let read = try read(range) { _ in
                Answer(headers: [("ETag", "\"v1\"")], body: content, delivery: delivery)
            }
            #expect(code(read.result) == nil)
            #expect(read.bytes == Array(content[Int(range.lowerBound)..<Int(range.upperBound)]))
        }
    }

    @Test(
        "another version is never read",
        arguments: [
            ("another ETag", part("bytes 1000-1199/100000", etag: "\"v2\"")),
            ("no ETag", part("bytes 1000-1199/100000", etag: nil)),
            ("a weak ETag", part("bytes 1000-1199/100000", etag: "W/\"v1\"")),
            ("another total", part("bytes 1000-1199/100001")),
            ("a whole of another version", Answer(headers: [("ETag", "\"v2\"")], body: content)),
            ("a whole of another size", Answer(headers: [("ETag", "\"v1\"")], body: pattern(100_001))),
            (
                "another date",
                part("bytes 1000-1199/100000", extra: [("Last-Modified", "Mon, 07 Nov 1994 08:49:37 GMT")])
            ),
        ])
    func changed(what: String, answer: Answer) throws {
        let read = try read(lastModified: "Sun, 06 Nov 1994 08:49:37 GMT") { _ in answer }
        #expect(code(read.result) == .changed, "\(what)")
        #expect(read.bytes.isEmpty)
    }

    @Test(
        "a range that is not the one asked for is not taken",
        arguments: [
            ("earlier", part("bytes 999-1198/100000")),
            ("later", part("bytes 1001-1200/100000")),
            ("longer", part("bytes 1000-1200/100000", bytes: 1000..<1201)),
            ("none", part(nil)),
            ("upside down", part("bytes 1199-1000/100000")),
            ("beyond the total", part("bytes 1000-1199/1100")),
            ("huge", part("bytes 1000-18446744073709551615/100000")),
            ("words", part("bytes many")),
            ("another length", part("bytes 1000-1199/100000", extra: [("Content-Length", "150")])),
            ("compressed", part("bytes 1000-1199/100000", extra: [("Content-Encoding", "gzip")])),
            ("compressed whole", Answer(headers: [("ETag", "\"v1\""), ("Content-Encoding", "gzip")], body: content)),
        ])
    func wrong(what: String, answer: Answer) throws {
        let read = try read { _ in answer }
        #expect(code(read.result) == .originUnavailable, "\(what)")
        #expect(read.bytes.isEmpty)
    }

    @Test("an unknown total and a missing Last-Modified are accepted")
    func lenient() throws {
        let read = try read(lastModified: "Sun, 06 Nov 1994 08:49:37 GMT") { _ in Self.part("bytes 1000-1199/*") }
        #expect(code(read.result) == nil)
        #expect(read.bytes == Array(content[1000..<1200]))
    }

    @Test("a shorter range is delivered, then reported as cut")
    func shorter() throws {
        let read = try read { _ in Self.part("bytes 1000-1099/100000", bytes: 1000..<1100) }
        #expect(code(read.result) == .originUnavailable)
        #expect(read.bytes == Array(content[1000..<1100]))
    }

    @Test("more bytes than announced are not passed on")
    func longer() throws {
        let read = try read { _ in Self.part("bytes 1000-1199/100000", bytes: 1000..<1300).delivered(.chunked) }
        #expect(code(read.result) == .originUnavailable)
        #expect(read.bytes.count <= 200)
    }

    @Test(
        "a cut body delivers what came and is transient",
        arguments: [Answer.Delivery.close(after: 100), .reset(after: 100)])
    func cut(delivery: Answer.Delivery) throws {
        let read = try read { .file(content, for: $0, etag: "\"v1\"").delivered(delivery) }
        guard case .failure(let error) = read.result else {
            Issue.record("a cut body was complete")
            return
        }
        #expect(error.code == .originUnavailable)
        #expect(error.isTransient)
        #expect(Array(content[1000..<1000 + read.bytes.count]) == read.bytes)
    }

    @Test("a whole that ends before the range is transient")
    func shortWhole() throws {
        let read = try read(size: nil, etag: nil) { _ in Answer(body: Array(content[..<1100]), delivery: .chunked) }
        #expect(code(read.result) == .originUnavailable)
        #expect(read.bytes == Array(content[1000..<1100]))
    }

    @Test(
        "other statuses go to the caller with headers and a bounded body",
        arguments: [302, 401, 403, 404, 412, 416, 429, 503])
    func answered(status: Int) throws {
        for size in [0, 30, 10 * RangeReader.answerBytesMax] {
            let read = try read { _ in Answer(status, headers: [("Location", "/x")], body: pattern(size)) }
            guard case .success(.answered(let response)) = read.result else {
                Issue.record("no answer: \(read.result)")
                return
            }
            #expect(response.status == status)
            #expect(response["Location"] == "/x")
            #expect(response.body == Array(pattern(size).prefix(RangeReader.answerBytesMax)))
            #expect(read.bytes.isEmpty)
        }
    }

    @Test("the sink's error comes out as it is")
    func sinkError() throws {
        let server = try ScriptedServer { .file(content, for: $0) }
        let error = failure { () throws(MCFSError) in
            _ = try RangeReader(client: client).read(
                ByteRange(0, 100_000), HTTPRequest("GET", server.url), expecting: .init(), deadline: .soon,
                into: CollectingSink(limit: 20_000))
        }
        #expect(error?.code == .noSpace)
    }
}
