import MCFSCore
import Testing

@testable import Origins
@testable import Transport

@Suite("S3 parts")
struct S3PartsTests {
    @Test(
        "references are split at the first slash",
        arguments: [
            ("s3://b", "b", "", ""), ("s3://b/", "b", "", ""), ("s3://b/p", "b", "p", "p/"),
            ("s3://b/p/", "b", "p/", "p/"),
            ("s3://b//p", "b", "/p", "/p/"), ("s3://a.b_C-1/x y?z#%41", "a.b_C-1", "x y?z#%41", "x y?z#%41/"),
        ])
    func locations(text: String, bucket: String, prefix: String, folder: String) throws {
        let location = try S3Location(text)
        #expect(location.bucket == bucket && location.prefix == prefix && location.folder == folder)
        #expect(try S3Location(location.description) == location)
    }

    @Test(
        "references without a bucket name are refused",
        arguments: [
            "s3://", "s3:///p", "s3://a b/p", "s3://a@b", "s3://a:9000/x", "s3://../x", "s3://ü", "http://x",
            "s3://b/a\0b",
        ])
    func badLocations(text: String) {
        #expect(refusal { () throws(MCFSError) in _ = try S3Location(text) }?.code == .usage)
    }

    @Test(
        "times are read",
        arguments: [
            ("2026-11-20T10:11:12.123Z", 1_795_169_472, 123_000_000), ("2026-11-20T10:11:12Z", 1_795_169_472, 0),
            ("2026-11-20T11:11:12+01:00", 1_795_169_472, 0), ("1970-01-01T00:00:00Z", 0, 0),
            ("2000-02-29t00:00:00.000000001z", 951_782_400, 1),
        ] as [(String, Int64, UInt32)])
    func times(text: String, seconds: Int64, nanoseconds: UInt32) {
        #expect(S3Time.timestamp(rfc3339: text) == Timestamp(seconds: seconds, nanoseconds: nanoseconds))
    }

    @Test(
        "what is no time is none",
        arguments: [
            "", "2026", "2026-11-20", "2026-11-20T10:11:12", "2026-13-20T10:11:12Z", "2026-11-20T10:11:12.Z",
            "x026-11-20T10:11:12Z", "2026-11-20T10:11:12+0100",
        ])
    func badTimes(text: String) { #expect(S3Time.timestamp(rfc3339: text) == nil) }

    @Test("names in listings are decoded as forms are")
    func encodedNames() throws {
        let page = try S3Page(
            Array(
                "<x:ListBucketResult xmlns:x='u'><x:EncodingType>url</x:EncodingType><x:Contents><x:Key>a+b%2Bc%0A%C3%BC%</x:Key><x:ETag>abc</x:ETag><x:Size>7</x:Size></x:Contents></x:ListBucketResult>"
                    .utf8))
        #expect(
            page.objects == [
                S3Object(key: Array("a b+c\nü%".utf8), etag: "\"abc\"", size: 7, modified: Timestamp(seconds: 0))
            ])
        #expect(page.nextToken == nil)
    }

    @Test("names are taken as they are where the server does not say that it encoded them")
    func plainNames() throws {
        let page = try S3Page(
            Array(
                "<ListBucketResult><Contents><Key>a+b%2B&amp;&#x41;</Key><Size>7</Size></Contents></ListBucketResult>"
                    .utf8))
        #expect(page.objects.first?.key == Array("a+b%2B&A".utf8))
    }

    static let bomb =
        "<?xml version=\"1.0\"?><!DOCTYPE l [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]><l>&b;</l>"

    @Test(
        "hostile documents are refused",
        arguments: [
            "", " ", "x", "<", "<a", "<a>", "<a></b>", "<a/><b/>", "<a>&nothere;</a>", "\u{0}<a/>", bomb,
            bomb.lowercased(), "<a>\u{0}</a>", "<a>&#0;</a>", "<a>&#x110000;</a>", "<a>&#xD800;</a>", "<a>&#-1;</a>",
            "< a/>",
            "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>", "<?xml version=\"1.0\" encoding=\"UTF-7\"?><a/>",
            "<?xml version='1.0' encoding='EBCDIC-US'?><a/>", String(repeating: "<a>", count: 100_000),
            String(repeating: "<a>", count: 40) + String(repeating: "</a>", count: 40),
            "<l>" + String(repeating: "<a/>", count: 200_001) + "</l>",
        ])
    func hostileDocuments(text: String) {
        #expect(refusal { () throws(MCFSError) in _ = try XMLNode.parse(Array(text.utf8)) }?.code == .corrupt)
    }

    @Test("every cut of a listing is refused")
    func truncated() {
        let text = Array("<ListBucketResult><Contents><Key>ab</Key><Size>1</Size></Contents></ListBucketResult>".utf8)
        for length in 0..<text.count {
            #expect(refusal { () throws(MCFSError) in _ = try S3Page(Array(text.prefix(length))) } != nil)
        }
    }

    @Test("a document of 100 MB is refused without a look")
    func huge() {
        let body = Array("<a>".utf8) + [UInt8](repeating: UInt8(ascii: "x"), count: 100_000_000)
        #expect(refusal { () throws(MCFSError) in _ = try XMLNode.parse(body) }?.code == .corrupt)
    }

    @Test("random bytes never do harm")
    func random() {
        var generator = SystemRandomNumberGenerator()
        let start = Array("<ListBucketResult><Contents><Key>ab</Key><Size>1</Size></Contents></ListBucketResult>".utf8)
        for _ in 0..<500 {
            var body = start
            for _ in 0..<3 {
                body[Int.random(in: 0..<body.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            _ = try? S3Page(body)
            _ = S3Error(HTTPResponse(status: 500, body: body))
        }
    }

    private func object(_ key: String) -> S3Object {
        S3Object(key: Array(key.utf8), etag: "\"e\"", size: 1, modified: Timestamp(seconds: 0))
    }

    @Test("keys that cannot be files are hidden and counted; folders hide files of their name")
    func policy() {
        let keys = [
            "p/a", "p/a/b", "p/", "p/d/", "p/x//y", "p/./y", "p/../../etc/passwd", "p//z", "p/n\0l", "p/ok", "p/e/f/",
            "p/e",
            "p/" + String(repeating: "n", count: 256),
        ]
        let contents = S3Contents(keys.map(object), below: "p/")
        #expect(contents.files.map { "\($0.path)" } == ["a/b", "ok"])
        #expect(contents.folders.map { "\($0.path)" } == ["d", "e/f"])
        #expect(contents.hiddenCount == 6)
        #expect(contents.shadowedCount == 2)
    }

    @Test("keys that are longer than keys can be are hidden; deep ones are files")
    func longKeys() {
        let deep = String(repeating: "a/", count: 511) + "a"
        let contents = S3Contents([deep, deep + "bc", "a/x"].map(object), below: "")
        #expect(contents.files.map { "\($0.path)" } == [deep, "a/x"])
        #expect(contents.hiddenCount == 1)
        let long = S3Contents([object(String(repeating: "a/", count: 20_000) + "a")], below: "")
        #expect(long.files.isEmpty && long.hiddenCount == 1)
    }

    @Test(
        "a size that nothing has is corrupt",
        arguments: ["-1", "", "x", "70368744177665", "9223372036854775807", "18446744073709551616", "1e5"])
    func sizes(size: String) {
        let page = "<ListBucketResult><Contents><Key>k</Key><Size>\(size)</Size></Contents></ListBucketResult>"
        #expect(refusal { () throws(MCFSError) in _ = try S3Page(Array(page.utf8)) }?.code == .corrupt)
    }

    @Test("a key that is not UTF-8 is hidden; two normal forms of one name are two files")
    func bytes() {
        let broken = S3Object(key: [0x61, 0xff], etag: "", size: 1, modified: Timestamp(seconds: 0))
        let contents = S3Contents([broken, object("e\u{301}"), object("\u{e9}")], below: "")
        #expect(contents.files.count == 2)
        #expect(contents.hiddenCount == 1)
    }

    @Test("the version does not depend on the order, and depends on all else")
    func version() {
        let base = S3Contents([object("a"), object("b")], below: "").version
        #expect(S3Contents([object("b"), object("a")], below: "").version == base)
        #expect(S3Contents([object("a"), object("c")], below: "").version != base)
        var larger = object("b")
        larger.size = 2
        #expect(S3Contents([object("a"), larger], below: "").version != base)
    }

    @Test(
        "every code has its place",
        arguments: [
            (404, "NoSuchBucket", .notFound), (404, "NoSuchKey", .notFound), (403, "AccessDenied", .unauthorized),
            (403, "InvalidAccessKeyId", .unauthorized), (403, "SignatureDoesNotMatch", .unauthorized),
            (400, "ExpiredToken", .unauthorized), (400, "InvalidToken", .unauthorized),
            (403, "InvalidObjectState", .originUnavailable), (503, "SlowDown", .originUnavailable),
            (403, "RequestTimeTooSkewed", .unauthorized), (301, "PermanentRedirect", .configuration),
            (412, "PreconditionFailed", .changed), (416, "InvalidRange", .changed),
            (400, "RequestTimeout", .originUnavailable),
            (403, "", .unauthorized), (400, "UnsupportedAlgorithm", .unauthorized), (404, "", .notFound),
            (412, "", .changed), (418, "", .originUnavailable),
            (200, "", .originUnavailable), (301, "", .configuration),
        ] as [(Int, String, MCFSError.Code)])
    func errors(status: Int, code: String, expected: MCFSError.Code) {
        let body = code.isEmpty ? [] : Array("<Error><Code>\(code)</Code><Token-0>SECRETTOKEN</Token-0></Error>".utf8)
        let error = S3Error(HTTPResponse(status: status, body: body)).error(
            cannot: "read s3://b/k", bucket: "b", credential: "the credential of profile 'x'")
        #expect(error.code == expected)
        #expect(error.isTransient == [503].contains(status) || code == "RequestTimeout")
        #expect(error.message.hasPrefix("cannot read s3://b/k: HTTP \(status)"))
        #expect(error.message.contains(code))
        #expect(!error.message.contains("SECRETTOKEN"))
    }

    @Test("regions in answers are taken only where they can be part of a host name")
    func regions() {
        func region(_ headers: [(name: String, value: String)], _ body: String) -> String? {
            S3Error(HTTPResponse(status: 301, headers: headers, body: Array(body.utf8))).region
        }
        #expect(region([("x-amz-bucket-region", "eu-west-1")], "") == "eu-west-1")
        #expect(region([("x-amz-bucket-region", "evil.example/")], "") == nil)
        #expect(region([], "<Error><Region>ap-south-1</Region></Error>") == "ap-south-1")
        #expect(region([], "<Error><Endpoint>b.s3.eu-west-2.amazonaws.com</Endpoint></Error>") == "eu-west-2")
        #expect(region([], "<Error><Endpoint>b.s3-us-west-2.amazonaws.com</Endpoint></Error>") == "us-west-2")
        #expect(region([], "<Error><Endpoint>amazonaws.com</Endpoint></Error>") == nil)
    }
}
