import MCFSCore
import Testing
import Transport

@Suite("Errors of HTTP statuses")
struct HTTPResponseErrorTests {
    @Test(
        "each status has one meaning",
        arguments: [
            (401, MCFSError.Code.unauthorized, false), (403, .unauthorized, false), (404, .notFound, false),
            (410, .notFound, false), (408, .originUnavailable, true), (429, .originUnavailable, true),
            (500, .originUnavailable, true), (503, .originUnavailable, true), (599, .originUnavailable, true),
            (412, .changed, false), (416, .changed, false), (400, .originUnavailable, false),
            (302, .originUnavailable, false),
        ])
    func statuses(status: Int, code: MCFSError.Code, isTransient: Bool) {
        let error = HTTPResponse(status: status).error("read x", remedy: "do y")
        #expect(error.code == code)
        #expect(error.isTransient == isTransient)
        #expect(error.message == "cannot read x: HTTP \(status); do y")
    }

    @Test(
        "Retry-After is seconds or a date",
        arguments: [
            ("3", Duration.seconds(3)), ("0", .zero), ("Sun, 06 Nov 1994 08:50:07 GMT", .seconds(30)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", .zero), ("99999999999999999999", nil), ("999999999", .seconds(86_400)),
            ("-4", nil), ("soon", nil), ("", nil),
        ] as [(String, Duration?)])
    func retryAfter(value: String, expected: Duration?) {
        let headers = [("Retry-After", value), ("Date", "Sun, 06 Nov 1994 08:49:37 GMT")]
        #expect(HTTPResponse(status: 503, headers: headers).error("x").retryAfter == expected)
    }

    @Test(
        "a short text of the server is shown, secrets and pages are not",
        arguments: [
            ("text/plain", "slow down", " (slow down)"),
            (
                "application/xml", "<Error><Code>SlowDown</Code><Message>Reduce it.</Message></Error>",
                " (SlowDown Reduce it.)"
            ),
            ("application/json", "{\"errors\":[{\"code\":\"DENIED\"}]}", " ({\"errors\":[{\"code\":\"DENIED\"}]})"),
            ("text/html", "<html>503</html>", ""),
            ("text/plain", "\u{1}\u{2}", ""),
            ("text/plain", "go to https://h/p?X-Amz-Signature=abc now", " (… to https)"),
            ("text/plain", "Authorization: Bearer abc", " (Authorization: …"),
            ("text/plain", "{\"token\": \"abc\"}", " ({\"token\": …)"),
            ("text/plain", "token=abc", " (…)"),
            ("text/plain", String(repeating: "k", count: 300), " (…)"),
        ])
    func bodies(type: String, body: String, shown: String) {
        let response = HTTPResponse(status: 503, headers: [("Content-Type", type)], body: Array(body.utf8))
        let message = response.error("x").message
        #expect(!message.contains("abc"))
        #expect(!message.contains("kkkkkk"))
        if !shown.hasPrefix(" (… to") && !shown.hasPrefix(" (Auth") { #expect(message == "cannot x: HTTP 503" + shown) }
    }

    @Test(
        "dates of HTTP",
        arguments: [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777), ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
            ("Sun Nov  6 08:49:37 1994", 784_111_777), ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Thu, 29 Feb 2024 23:59:59 GMT", 1_709_251_199), ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
            ("Sun, 06 Foo 1994 08:49:37 GMT", nil), ("Sun, 06 Nov 199999999999999999994 08:49:37 GMT", nil),
            ("yesterday", nil), ("", nil), ("a b c d e f", nil), ("Sun, 06 Nov 1994 08:49 GMT", nil),
        ] as [(String, Int64?)])
    func dates(text: String, seconds: Int64?) {
        #expect(HTTPDate.parse(text) == seconds)
    }
}
