import MCFSCore
import Testing

@testable import Transport

/// The examples that the Amazon S3 API reference publishes.
@Suite("AWS signer")
struct AWSSignerTests {
    static let key = AWSSigner.Key(
        accessKeyID: "AKIAIOSFODNN7EXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    static let time = Timestamp(seconds: 1_369_353_600)  // 2013-05-24T00:00:00Z
    static let host = "https://examplebucket.s3.amazonaws.com"
    let signer = AWSSigner(key: key, region: "us-east-1", service: "s3")

    struct Example: Sendable, CustomTestStringConvertible {
        var name: String
        var request: HTTPRequest
        var canonicalHash: String
        var signature: String
        var testDescription: String { name }
    }

    static let examples = [
        Example(
            name: "a range of an object",
            request: HTTPRequest("GET", "\(host)/test.txt", headers: [("Range", "bytes=0-9")]),
            canonicalHash: "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972",
            signature: "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        Example(
            name: "an upload with a name that needs encoding",
            request: HTTPRequest(
                "PUT", "\(host)/test$file.text",
                headers: [("Date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
                body: Array("Welcome to Amazon S3.".utf8)),
            canonicalHash: "9e0e90d9c76de8fa5b200d8c849cd5b8dc7a3be3951ddb7f6a76b4158342019d",
            signature: "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
        Example(
            name: "a query without a value",
            request: HTTPRequest("GET", "\(host)/?lifecycle"),
            canonicalHash: "9766c798316ff2757b517bc739a67f6213b4ab36dd5da2f94eaebf79c77395ca",
            signature: "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        Example(
            name: "a list, its query in the wrong order",
            request: HTTPRequest("GET", "\(host)?prefix=J&max-keys=2"),
            canonicalHash: "df57d21db20da04d7fa30298dd4488ba3a2b47ca3a489c74750e0f1e7df1b9b7",
            signature: "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ]

    @Test("published requests get their published signatures", arguments: examples)
    func published(example: Example) {
        let signed = signer.signed(example.request, at: Self.time)
        let canonical = signer.canonicalRequest(signed).text
        #expect(Digest.sha256(of: Array(canonical.utf8)).hex == example.canonicalHash)
        let authorization = signed.headers.first { $0.name == "Authorization" }?.value ?? ""
        #expect(authorization.hasSuffix("Signature=\(example.signature)"))
        #expect(
            authorization.hasPrefix(
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders="))
    }

    @Test("the signing key is the published one")
    func signingKey() {
        #expect(
            signer.signingKey(day: "20130524").hex == "dbb893acc010964918f1fd433add87c70e8b0db6be30c1fbeafefa5ec6ba8378"
        )
    }

    @Test(
        "paths are encoded once, never normalised",
        arguments: [
            ("https://h", "/"), ("https://h/a b", "/a%20b"), ("https://h/a%20b", "/a%20b"), ("https://h/a+b", "/a%2Bb"),
            ("https://h/a//b/../c/.", "/a//b/../c/."), ("https://h/ü", "/%C3%BC"), ("https://h/%", "/%25"),
            ("https://h/%4", "/%254"), ("https://h/%zz", "/%25zz"), ("https://h/a%2fb", "/a/b"),
            ("https://h/~-_.", "/~-_."),
        ])
    func paths(url: String, path: String) {
        let text = signer.canonicalRequest(HTTPRequest("GET", url)).text
        #expect(text.split(separator: "\n")[1] == path)
        #expect(signer.signed(HTTPRequest("GET", url), at: Self.time).url == "https://h\(path)")
    }

    @Test(
        "the host is signed without its scheme's own port",
        arguments: [
            ("https://H.example:443/", "h.example"), ("http://h.example:80/", "h.example"),
            ("http://h.example:443/", "h.example:443"), ("http://127.0.0.1:9000/", "127.0.0.1:9000"),
            ("http://[::1]:80/", "[::1]"),
        ])
    func hosts(url: String, host: String) {
        #expect(signer.canonicalRequest(HTTPRequest("GET", url)).text.contains("\nhost:\(host)\n"))
    }

    @Test("headers are sorted by name, joined and trimmed")
    func headers() {
        let request = HTTPRequest(
            "GET", "https://h/",
            headers: [("X-Amz-Meta-B", " a   b "), ("X-Amz-Meta", "1"), ("X-Amz-Meta", "2"), ("User-Agent", "mcfs")])
        let (text, names) = signer.canonicalRequest(request)
        #expect(names == "host;x-amz-meta;x-amz-meta-b")
        #expect(text.contains("\nhost:h\nx-amz-meta:1,2\nx-amz-meta-b:a b\n\nhost;"))
    }

    @Test("a session token is sent and signed; other services get no payload header")
    func sessionToken() {
        let key = AWSSigner.Key(accessKeyID: "A", secretAccessKey: "B", sessionToken: "TOKEN")
        let signed = AWSSigner(key: key, region: "r", service: "sts").signed(
            HTTPRequest("POST", "https://h/"), at: Self.time)
        #expect(signed.headers.contains { $0.name == "x-amz-security-token" && $0.value == "TOKEN" })
        #expect(!signed.headers.contains { $0.name == "x-amz-content-sha256" })
        #expect(signed.headers.last?.value.contains("SignedHeaders=host;x-amz-date;x-amz-security-token,") == true)
    }

    @Test("signing again replaces the old authorisation")
    func again() {
        let once = signer.signed(HTTPRequest("GET", "https://h/", headers: [("authorization", "old")]), at: Self.time)
        #expect(once.headers.filter { $0.name.lowercased() == "authorization" }.count == 1)
    }

    @Test(
        "times are written in UTC",
        arguments: [
            (0, "19700101T000000Z"), (951_782_400, "20000229T000000Z"), (1_709_251_199, "20240229T235959Z"),
            (4_107_542_400, "21000301T000000Z"), (-1, "19691231T235959Z"), (1_795_224_367, "20261121T012607Z"),
        ] as [(Int64, String)])
    func stamps(seconds: Int64, stamp: String) {
        #expect(AWSSigner.stamp(Timestamp(seconds: seconds)) == stamp)
    }

    @Test("no description of a key shows its secret")
    func redacted() {
        let key = AWSSigner.Key(accessKeyID: "AKIDEXAMPLE", secretAccessKey: "SECRETSECRET", sessionToken: "TOKENTOKEN")
        for text in ["\(key)", String(reflecting: key), String(describing: signer.key)] {
            #expect(!text.contains("SECRET") && !text.contains("TOKEN") && !text.contains("wJalr"))
        }
        var dumped = ""
        dump(AWSSigner(key: key, region: "r", service: "s3"), to: &dumped)
        #expect(!dumped.contains("SECRET") && !dumped.contains("TOKEN"))
    }
}
