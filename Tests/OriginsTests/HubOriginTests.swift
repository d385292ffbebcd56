import Catalog
import Foundation
import MCFSCore
import MCFSTestSupport
import Testing
import Transport

@testable import Origins

@Suite("HubOrigin", .timeLimit(.minutes(5)))
struct HubOriginTests {
    private let commit = ScriptedHub.commit
    private let gitID = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"

    private func resolved(_ scripted: ScriptedHub, _ reference: String = "hf://org/name") throws -> Catalog.Resolution {
        try scripted.origin(reference).resolve(deadline: hubDeadline)
    }

    /// The tree of `hf://org/name@COMMIT[/subdirectory]`, of which nothing is asked but the listing.
    private func tree(_ scripted: ScriptedHub, subdirectory: String = "") throws -> Tree {
        let folder = NSTemporaryDirectory() + "hub-catalog-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let text = "hf://org/name@\(commit)" + (subdirectory.isEmpty ? "" : "/" + subdirectory)
        let loading = TreeLoading(
            content: NoContent(), catalog: CatalogHints(try Catalog(directory: folder)) { _ in },
            progress: NoProgress(), deadline: hubDeadline
        )
        return try scripted.origin(text).tree(
            of: Catalog.Resolution(reference: text, resolved: text, treeKey: "key"), loading: loading)
    }

    // MARK: Resolving

    @Test("a branch is resolved to a commit, which the resolved form names")
    func resolving() throws {
        let scripted = try ScriptedHub()
        for revision in ["main", "refs%2Fpr%2F1"] {
            scripted.json("/api/models/org/name/revision/\(revision)", #"{"sha":"\#(commit)","gated":false}"#)
        }
        let plain = try resolved(scripted)
        #expect(plain.resolved == "hf://org/name@\(commit)")
        #expect(plain.reference == "hf://org/name")
        let folder = try resolved(scripted, "hf://org/name@refs/pr/1/sub")
        #expect(folder.resolved == "hf://org/name@\(commit)/sub")
        #expect(plain.treeKey.hasPrefix("hf-") && plain.treeKey != folder.treeKey)
        #expect(try resolved(scripted, "hf://org/name@main").treeKey == plain.treeKey)
        #expect(scripted.hub.requests.allSatisfy { $0["Authorization"] == "Bearer hf_secret" })
    }

    @Test("a repository that was renamed is followed on the Hub, not to another host")
    func renamed() throws {
        let scripted = try ScriptedHub()
        scripted.json("/api/models/new/name/revision/main", #"{"sha":"\#(commit)"}"#)
        scripted.route("/api/models/org/name/revision/main") { _ in
            .init(307, headers: [("Location", "/api/models/new/name/revision/main")])
        }
        #expect(try resolved(scripted).resolved == "hf://org/name@\(commit)")
        let elsewhere = scripted.content.url
        scripted.route("/api/models/org/name/revision/main") { _ in
            .init(307, headers: [("Location", elsewhere + "/x")])
        }
        #expect(hubFailure { _ = try resolved(scripted) }?.code == .originUnavailable)
        #expect(scripted.content.requests.isEmpty)
        scripted.route("/api/models/org/name/revision/main") { request in
            .init(302, headers: [("Location", request.target)])
        }
        #expect(hubFailure { _ = try resolved(scripted) }?.message.contains("redirects more than") == true)
    }

    @Test(
        "each refusal is one sentence with its remedy",
        arguments: [
            (404, "RevisionNotFound", "", MCFSError.Code.notFound, "has no revision 'main'"),
            (401, "RepoNotFound", "Invalid username or password.", .notFound, "HF_TOKEN"),
            (404, "RepoNotFound", "", .notFound, "no such repository"),
            (401, "GatedRepo", "", .unauthorized, "/org/name, then set HF_TOKEN"),
            (403, "GatedRepo", "", .unauthorized, "access to it must be granted"),
            (403, "", "Access to this resource is disabled.", .unauthorized, "disabled"),
            (401, "", "Invalid credentials in Authorization header", .unauthorized, "does not know the token"),
            (403, "", "", .unauthorized, "scope"), (404, "", "", .notFound, "HF_ENDPOINT"),
            (418, "", "", .originUnavailable, "HTTP 418"), (200, "", "", .corrupt, "names no commit"),
        ] as [(Int, String, String, MCFSError.Code, String)])
    func refusals(status: Int, code: String, message: String, expected: MCFSError.Code, part: String) throws {
        let scripted = try ScriptedHub()
        scripted.route("/api/models/org/name/revision/main") { _ in
            .init(status, headers: [("X-Error-Code", code), ("X-Error-Message", message)], text: #"{"error":"x"}"#)
        }
        let error = hubFailure { _ = try resolved(scripted) }
        #expect(error?.code == expected)
        #expect(error?.message.contains(part) == true, "\(error?.message ?? "")")
        #expect(error?.message.hasPrefix("cannot resolve hf://org/name: ") == true)
        #expect(error?.message.contains("hf_secret") == false)
        #expect(error?.isTransient == false)
    }

    @Test("a gated repository is refused at once, and open to a token that has access")
    func gated() throws {
        let scripted = try ScriptedHub()
        scripted.json("/api/models/org/name/revision/main", #"{"sha":"\#(commit)","gated":"manual"}"#)
        scripted.route("/api/models/org/name/auth-check") { request in
            request["Authorization"] == "Bearer hf_reader"
                ? .init(text: "{}") : .init(403, headers: [("X-Error-Code", "GatedRepo")])
        }
        #expect(hubFailure { _ = try resolved(scripted) }?.code == .unauthorized)
        let reader = try scripted.origin("hf://org/name", ["HF_TOKEN": "hf_reader"])
        #expect(try reader.resolve(deadline: hubDeadline).resolved.hasSuffix(commit))
        // A mirror that does not know the question.
        scripted.route("/api/models/org/name/auth-check") { _ in .init(404) }
        #expect(try resolved(scripted).resolved.hasSuffix(commit))
    }

    @Test("a token that was renewed in its file is used after a refusal")
    func renewedToken() throws {
        let scripted = try ScriptedHub()
        let path = NSTemporaryDirectory() + "hub-token-\(UUID().uuidString)"
        try "old".write(toFile: path, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let commit = commit
        scripted.route("/api/models/org/name/revision/main") { request in
            if request["Authorization"] == "Bearer new" { return .init(text: #"{"sha":"\#(commit)"}"#) }
            try? "new".write(toFile: path, atomically: true, encoding: .utf8)
            return .init(401, headers: [("X-Error-Message", "Invalid credentials in Authorization header")])
        }
        let origin = try scripted.origin("hf://org/name", ["HF_TOKEN_PATH": path])
        #expect(try origin.resolve(deadline: hubDeadline).resolved.hasSuffix(commit))
        #expect(scripted.hub.requests.count == 2)
    }

    @Test("a limit of requests is waited for as long as the Hub says")
    func rateLimit() throws {
        let scripted = try ScriptedHub()
        let commit = commit
        scripted.route("/api/models/org/name/revision/main") { [scripted = Unowned(scripted)] _ in
            switch scripted.count {
            case 1: .init(429, headers: [("RateLimit", "\"api\";r=0;t=3")])
            case 2: .init(503)
            default: .init(text: #"{"sha":"\#(commit)"}"#)
            }
        }
        let pauses = Pauses()
        _ = try scripted.origin(pauses: pauses).resolve(deadline: hubDeadline)
        #expect(pauses.all.first == .seconds(4))
        #expect(pauses.all.count == 2)
        scripted.route("/api/models/org/name/revision/main") { _ in .init(429, headers: [("Retry-After", "3600")]) }
        let error = hubFailure { _ = try resolved(scripted) }
        #expect(error?.isTransient == true && error?.retryAfter == .seconds(3600))
    }

    @Test("HF_HUB_OFFLINE asks nothing")
    func offline() throws {
        let scripted = try ScriptedHub()
        let origin = try scripted.origin("hf://org/name", ["HF_HUB_OFFLINE": "1"])
        let error = hubFailure { _ = try origin.resolve(deadline: hubDeadline) }
        #expect(error?.code == .originUnavailable && error?.message.contains("HF_HUB_OFFLINE") == true)
        #expect(scripted.hub.requests.isEmpty)
    }

    @Test("an endpoint that is no URL is a fault of the configuration")
    func endpoint() {
        for text in ["hub.example", "ftp://hub.example", "https://user:password@hub.example", "https://hub.example?x"] {
            let environment = Environment(["HF_ENDPOINT": text])
            let error = hubFailure { _ = try HubClient(environment: environment, http: HTTPClient()) }
            #expect(error?.code == .configuration && error?.message.contains("password") == false)
        }
    }

    @Test("a redirect from https to http is not followed")
    func downgrade() throws {
        let client = try HubClient(environment: Environment(["HF_ENDPOINT": "https://hub.example"]), http: HTTPClient())
        let address = try #require(HubAddress("https://hub.example/x"))
        let response = HTTPResponse(status: 302, headers: [("Location", "http://cdn.example/x")])
        #expect(hubFailure { _ = try client.target(of: response, from: address, "read x") }?.code == .originUnavailable)
    }

    // MARK: Listing

    @Test("all pages of the listing make the tree, with content's digests and sizes")
    func pages() throws {
        let scripted = try ScriptedHub()
        let first = "/api/models/org/name/tree/\(commit)?recursive=true"
        scripted.json(
            first,
            """
            [{"type":"directory","path":"sub","oid":"\(gitID)","size":0},
             {"type":"file","path":"sub/large.bin","oid":"\(gitID)","size":135,
              "lfs":{"oid":"\(ScriptedHub.sha256)","size":5000,"pointerSize":135},"xetHash":"ff"}]
            """, headers: [("Link", "<\(scripted.hub.url)/api/models/org/name/tree/\(commit)?cursor=2>; rel=\"next\"")])
        scripted.json(
            "/api/models/org/name/tree/\(commit)?cursor=2",
            """
            [{"type":"file","path":"empty","oid":"\(gitID)","size":0,"lastCommit":{"date":"2024-02-29T12:00:00.000Z"}},
             {"type":"submodule","path":"other","oid":"\(gitID)"}]
            """)
        let tree = try tree(scripted)
        #expect(tree.count == 4)
        let large = try #require(tree.entry(at: try TreePath("sub/large.bin")).flatMap { tree.content(of: $0) })
        #expect(large.id.description == "sha256-\(ScriptedHub.sha256)" && large.size == 5000 && large.offset == 0)
        let source = tree.sources[large.source]
        #expect(source["path"] == "sub/large.bin" && source["kind"] == "hf" && source["etag"] == ScriptedHub.sha256)
        let empty = try #require(tree.entry(at: try TreePath("empty")))
        #expect(tree.content(of: empty)?.id.description == "git-\(gitID)")
        #expect(tree.attributes(of: empty).modified.seconds == 1_709_208_000)
        #expect(tree.attributes(of: empty).permissions == 0o644)
    }

    @Test("a folder of the repository becomes the root")
    func subdirectory() throws {
        let scripted = try ScriptedHub()
        scripted.json(
            "/api/models/org/name/tree/\(commit)/a%20b?recursive=true",
            #"[{"type":"file","path":"a b/x","oid":"\#(gitID)","size":0}]"#)
        let tree = try tree(scripted, subdirectory: "a b")
        let entry = try #require(tree.entry(at: try TreePath("x")))
        #expect(tree.sources[try #require(tree.content(of: entry)).source]["path"] == "a b/x")
        scripted.route("/api/models/org/name/tree/\(commit)/none?recursive=true") { _ in
            .init(404, headers: [("X-Error-Code", "EntryNotFound")])
        }
        let error = hubFailure { _ = try self.tree(scripted, subdirectory: "none") }
        #expect(error?.code == .notFound && error?.message.contains("there is no 'none'") == true)
    }

    @Test("a next page on another host is not asked for")
    func nextElsewhere() throws {
        let scripted = try ScriptedHub()
        scripted.json(
            "/api/models/org/name/tree/\(commit)?recursive=true", "[]",
            headers: [("Link", "<\(scripted.content.url)/x>; rel=\"next\"")])
        #expect(hubFailure { _ = try tree(scripted) }?.code == .originUnavailable)
        #expect(scripted.content.requests.isEmpty)
    }

    @Test("pages that lead in a circle end with an error")
    func endless() throws {
        let scripted = try ScriptedHub()
        let first = "/api/models/org/name/tree/\(commit)?recursive=true"
        scripted.json(first, "[]", headers: [("Link", "<\(scripted.hub.url)\(first)>; rel=\"next\"")])
        #expect(hubFailure { _ = try tree(scripted) }?.message.contains("do not end") == true)
    }

    @Test(
        "a listing that cannot be is an error",
        arguments: [
            "", "{}", "[1]", "[", "[{}]", #"[{"type":"file","path":"../x","oid":"GIT","size":0}]"#,
            #"[{"type":"file","path":"x","oid":"GIT","size":-1}]"#, #"[{"type":"file","path":"x","oid":"GIT"}]"#,
            #"[{"type":"file","path":"x","oid":"GIT","size":18446744073709551615}]"#,
            #"[{"type":"file","path":"x","oid":"GIT","size":70368744177665}]"#,
            #"[{"type":"file","path":"x","oid":"zz","size":0}]"#, #"[{"type":"file","path":"","oid":"GIT","size":0}]"#,
            #"[{"type":"file","path":"x","oid":"GIT","size":0,"lfs":{"oid":"GIT","size":1}}]"#,
            #"[{"type":"file","path":"x","oid":"GIT","size":0},{"type":"file","path":"x/y","oid":"GIT","size":0}]"#,
        ])
    func hostileListing(text: String) throws {
        let scripted = try ScriptedHub()
        scripted.json(
            "/api/models/org/name/tree/\(commit)?recursive=true", text.replacingOccurrences(of: "GIT", with: gitID))
        #expect(hubFailure { _ = try tree(scripted) }?.code == .corrupt)
    }

    // MARK: Sources

    @Test("a source of a stored tree reads the file; two openings share its signed URL")
    func sources() throws {
        let scripted = try ScriptedHub()
        scripted.routeLarge()
        let origin = try scripted.origin()
        let resolution = Catalog.Resolution(
            reference: "hf://org/name", resolved: "hf://org/name@\(commit)", treeKey: "key")
        let descriptor = SourceDescriptor([
            "kind": "hf", "path": "large.bin", "size": "5000", "etag": ScriptedHub.sha256, "large": "true",
        ])
        for _ in 0..<2 {
            let source = try origin.source(descriptor, of: resolution)
            #expect(try source.hubBytes(10..<20) == Array(ScriptedHub.large[10..<20]))
        }
        #expect(scripted.resolves == 1)
        for properties in [[:], ["kind": "s3"], ["kind": "hf", "path": "x", "etag": "", "size": "-1"]] {
            let error = hubFailure { _ = try origin.source(SourceDescriptor(properties), of: resolution) }
            #expect(error?.code == .corrupt)
        }
    }
}

/// Counts what a scripted Hub was asked, from inside its own route.
private struct Unowned: @unchecked Sendable {
    // A server outlives the requests that it answers.
    private unowned let scripted: ScriptedHub
    init(_ scripted: ScriptedHub) { self.scripted = scripted }
    var count: Int { scripted.hub.requests.count }
}

private final class NoProgress: ProgressReporter {
    func report(phase: String, done: UInt64, total: UInt64?) {}
}

private final class NoContent: ContentSink {
    func beginContent(id: BlobID?, size: UInt64) throws(MCFSError) -> any ContentWriter {
        throw MCFSError(.failed, "a listing has no content")
    }
}
