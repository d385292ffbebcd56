import Foundation
import MCFSCore
import Testing
import Transport

@testable import Origins

@Suite("References to the Hub")
struct HubReferenceTests {
    @Test(
        "name a repository, a revision and a folder",
        arguments: [
            ("hf://org/name", "org/name", "main", ""),
            ("hf://org/name/", "org/name", "main", ""),
            ("hf://org/na-me_1.5@v1", "org/na-me_1.5", "v1", ""),
            ("hf://org/name@refs/pr/7/sub/dir", "org/name", "refs/pr/7", "sub/dir"),
            ("hf://org/name@refs%2Fconvert%2Fparquet/x", "org/name", "refs/convert/parquet", "x"),
            ("hf://org/name@feature%2Fnew", "org/name", "feature/new", ""),
            ("hf://org/name/a b/ü", "org/name", "main", "a b/ü"),
            ("hf://datasets/org/name@v1/train", "org/name", "v1", "train"),
            ("hf://spaces/org/name", "org/name", "main", ""),
        ])
    func parses(text: String, id: String, revision: String, subdirectory: String) throws {
        let reference = try HubReference(text)
        #expect(reference.repository.id == id)
        #expect(reference.revision == revision)
        #expect(reference.subdirectory.description == subdirectory)
    }

    @Test("give back what was typed once they are pinned")
    func pins() throws {
        let commit = String(repeating: "ab", count: 20)
        let pinned = try HubReference("hf://datasets/org/name@v1/train").pinned(to: commit)
        #expect(pinned == "hf://datasets/org/name@\(commit)/train")
        #expect(try HubReference(pinned).pinned(to: commit) == pinned)
        #expect(try HubReference(pinned).isPinned)
    }

    @Test(
        "that are malformed are refused with an example",
        arguments: [
            "hf://", "hf://gpt2", "hf:///name", "hf://org/", "hf://datasets/", "hf://datasets/name", "hf://org/na me",
            "hf://org/.name", "hf://org/na--me", "hf://org/na..me", "hf://-org/name", "hf://org/name@",
            "hf://org/name@/x",
            "hf://org/name@a%2", "hf://org/name@a%zz", "hf://org/name@%ff%fe", "hf://org/name@..", "hf://org/name@a%00",
            "hf://org/name/../other", "hf://org/name/a\u{1}", "hf://o\u{301}rg/name",
            "hf://org/\(String(repeating: "n", count: 97))", "hf://org/name/\(String(repeating: "n", count: 300))",
            "s3://x",
        ])
    func refuses(text: String) throws {
        let error = hubFailure { _ = try HubReference(text) }
        #expect(error?.code == .usage)
        #expect(error?.message.contains("hf://openai-community/gpt2@main") == true)
    }
}

@Suite("Addresses of the Hub")
struct HubAddressTests {
    @Test(
        "tell who is the same host",
        arguments: [
            ("https://hub.example/a", "https://HUB.example:443/b", true),
            ("https://hub.example/a", "http://hub.example/b", false),
            ("https://hub.example/a", "https://hub.example:444/b", false),
            ("https://hub.example/a", "https://hub.example.evil/b", false),
            ("http://hub.example:80/a", "http://hub.example?x", true),
        ])
    func origins(a: String, b: String, same: Bool) throws {
        let (first, second) = (try #require(HubAddress(a)), try #require(HubAddress(b)))
        #expect((first.origin == second.origin) == same)
    }

    @Test(
        "that two readers may read differently are none",
        arguments: [
            "", "hub.example", "ftp://hub.example/", "https://", "https://:80/", "https://hub.example\\@evil/",
            "https://a b/",
            "https://user@hub.example/", "https://hub.example/ü", "https://hub.example/\n", "//hub.example/",
        ])
    func refused(text: String) { #expect(HubAddress(text) == nil) }

    @Test(
        "resolve what a redirect says",
        arguments: [
            ("/api/x?y=1", "https://hub.example/api/x?y=1"), ("//cdn.example/x", "https://cdn.example/x"),
            ("https://cdn.example/x", "https://cdn.example/x"), ("next", "https://hub.example/a/next"),
            ("?cursor=2", "https://hub.example/a/b?cursor=2"), ("javascript:x", nil), ("", nil), ("http:evil", nil),
        ] as [(String, String?)])
    func resolving(location: String, expected: String?) throws {
        let base = try #require(HubAddress("https://hub.example/a/b?c=d"))
        #expect(base.resolving(location)?.text == expected)
    }

    @Test(
        "that are signed tell when they expire",
        arguments: [
            ("Expires=2000&Signature=x", 2000), ("X-Amz-Date=20260131T235959Z&X-Amz-Expires=60", 1_769_904_059),
            ("Signature=x", nil), ("Expires=99999999999999999999", nil), ("Expires=-5", nil), ("Expires", nil),
            ("X-Amz-Date=20261331T000000Z&X-Amz-Expires=60", nil), ("X-Amz-Date=x&X-Amz-Expires=60", nil),
            // Long past: the clocks differ, and only a refusal shows that it has expired.
            ("Expires=500", nil),
        ] as [(String, Int64?)])
    func expiry(query: String, expected: Int64?) throws {
        let url = SignedURL(try #require(HubAddress("https://cdn.example/x?\(query)")), now: 1000)
        #expect(url.expires == expected)
        #expect(url.isUsable(now: 1000))
        if let expected { #expect(!url.isUsable(now: expected - 10)) }
    }

    @Test(
        "dates are read",
        arguments: [
            ("1970-01-01T00:00:00Z", 0), ("2024-02-29T12:00:00.000Z", 1_709_208_000), ("20000301T000000Z", 951_868_800),
            ("2024-02-29", nil), ("2024-02-29T12:00:00+01:00", nil), ("0001-01-01T00:00:00Z", nil), ("Z", nil),
        ] as [(String, Int64?)])
    func dates(text: String, expected: Int64?) { #expect(CivilTime.seconds(of: text) == expected) }
}

@Suite("Tokens of the Hub")
struct HubTokenTests {
    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = NSTemporaryDirectory() + "hub-token-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder)
    }

    @Test("come from the variables, then from the file that the variables name")
    func order() throws {
        try withFolder { folder in
            for name in ["path", "token", "huggingface/token", ".cache/huggingface/token"] {
                let file = folder + "/" + name
                try FileManager.default.createDirectory(
                    atPath: (file as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
                try "  of-\(name)\n".write(toFile: file, atomically: true, encoding: .utf8)
            }
            var variables = [
                "HF_TOKEN": "a", "HUGGING_FACE_HUB_TOKEN": "b", "HF_TOKEN_PATH": folder + "/path", "HF_HOME": "~",
                "XDG_CACHE_HOME": folder, "HOME": folder,
            ]
            let expected = [
                ("HF_TOKEN", "a"), ("HUGGING_FACE_HUB_TOKEN", "b"), ("HF_TOKEN_PATH", "of-path"),
                ("HF_HOME", "of-token"),
                ("XDG_CACHE_HOME", "of-huggingface/token"), ("", "of-.cache/huggingface/token"),
            ]
            for (name, token) in expected {
                #expect(HubToken(Environment(variables)).value == token)
                variables[name] = nil
            }
            variables["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
            #expect(HubToken(Environment(variables)).value == nil)
        }
    }

    @Test("that no header can hold are none")
    func unusable() {
        for token in [" ", "a b", "a\r\nX: y", "tökèn"] {
            #expect(HubToken(Environment(["HF_TOKEN": token, "HOME": "/nonexistent"])).value == nil)
        }
    }

    @Test("are looked up again when they were refused")
    func renewal() throws {
        try withFolder { folder in
            let path = folder + "/token"
            try "old".write(toFile: path, atomically: true, encoding: .utf8)
            let token = HubToken(Environment(["HF_TOKEN_PATH": path]))
            #expect(token.value == "old")
            #expect(!token.renew(refused: "old"))
            try "new\n".write(toFile: path, atomically: true, encoding: .utf8)
            #expect(token.value == "old")
            #expect(token.renew(refused: "old"))
            #expect(token.value == "new")
        }
    }
}

@Suite("Answers of the Hub")
struct HubAnswerTests {
    @Test(
        "name the next page",
        arguments: [
            ("</x?cursor=1>; rel=\"next\"", "/x?cursor=1"), ("<a>; rel=\"prev\", <b>; rel=\"next\"", "b"),
            ("<a>;rel=next", "a"),
            ("<a>; rel=\"last\"", nil), ("a; rel=next", nil), ("<", nil), ("><", nil), ("<a", nil),
        ] as [(String, String?)])
    func links(header: String, expected: String?) {
        #expect(HubListing.next(in: HTTPResponse(status: 200, headers: [("link", header)])) == expected)
    }

    @Test(
        "say how long to wait",
        arguments: [
            ([("Retry-After", "7")], 7), ([("RateLimit", "\"resolvers\";r=0;t=55")], 56),
            ([("RateLimit", "\"api\";r=0;t=99999999999")], nil), ([("RateLimit", "t=-1")], nil), ([], nil),
        ] as [([(String, String)], Int64?)])
    func waits(headers: [(String, String)], seconds: Int64?) {
        let response = HTTPResponse(status: 429, headers: headers.map { (name: $0.0, value: $0.1) })
        #expect(response.retryAfter == seconds.map { .seconds($0) })
    }
}
