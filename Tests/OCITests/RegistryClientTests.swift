import MCFSCore
import MCFSTestSupport
import Synchronization
import Testing

@testable import OCI

@Suite("Registry client: manifests", .timeLimit(.minutes(5)))
struct RegistryClientTests {
    let registry: FakeRegistry
    let deadline = Deadline(after: .seconds(20))
    static let empty = #"{"schemaVersion":2,"layers":[]}"#

    init() throws { registry = try FakeRegistry() }

    @Test("a tag is resolved by HEAD, and its manifest is read once by digest")
    func resolves() throws {
        let digest = registry.add(manifest: Self.empty, tag: "v1")
        let client = try makeClient("\(registry.authority)/team/cache:v1")
        #expect(try client.resolve(deadline: deadline) == digest)
        #expect(try client.manifest(digest, deadline: deadline) == Array(Self.empty.utf8))
        #expect(try client.manifest(digest, deadline: deadline) == Array(Self.empty.utf8))
        #expect(registry.log == ["HEAD manifests/v1", "GET manifests/\(digest)"])
        let accept = registry.server.requests[1]["Accept"] ?? ""
        for type in [MediaType.index, MediaType.manifest, MediaType.dockerList, MediaType.dockerManifest] {
            #expect(accept.contains(type))
        }
    }

    @Test("a registry without HEAD or digest header is asked with GET", arguments: [405, 404, 200])
    func resolvesWithoutHead(status: Int) throws {
        let digest = registry.add(manifest: Self.empty, tag: "v1")
        registry.change { $0.script = { $0.method == "HEAD" ? .init(status) : nil } }
        let client = try makeClient("\(registry.authority)/team/cache:v1")
        #expect(try client.resolve(deadline: deadline) == digest)
        _ = try client.manifest(digest, deadline: deadline)
        #expect(registry.log == ["HEAD manifests/v1", "GET manifests/v1"])
    }

    @Test("what is missing is named")
    func missing() throws {
        registry.add(manifest: Self.empty, tag: "v1")
        let tag = #expect(throws: MCFSError.self) {
            try makeClient("\(registry.authority)/team/cache:v2").resolve(deadline: deadline)
        }
        #expect(tag?.code == .notFound)
        #expect(tag?.message.contains("has no tag 'v2'") == true)
        let repository = #expect(throws: MCFSError.self) {
            try makeClient("\(registry.authority)/team/other:v1").resolve(deadline: deadline)
        }
        #expect(repository?.code == .notFound)
        #expect(repository?.message.contains("has no repository 'team/other'") == true)
    }

    @Test("a body that is not what its digest says is refused")
    func wrongBytes() throws {
        let digest = registry.add(manifest: Self.empty)
        registry.change { $0.manifests[digest.description] = Array("{}".utf8) }
        let error = #expect(throws: MCFSError.self) {
            try makeClient("\(registry.authority)/team/cache").manifest(digest, deadline: deadline)
        }
        #expect(error?.code == .corrupt)
    }

    @Test("a manifest of more than 16 MiB is refused while it arrives")
    func hugeManifest() throws {
        let huge = [UInt8](repeating: 0x20, count: ManifestDocument.bytesMax + 1)
        let digest = Digest.sha256(of: huge)
        registry.change { $0.manifests[digest.description] = huge }
        let error = #expect(throws: MCFSError.self) {
            try makeClient("\(registry.authority)/team/cache").manifest(digest, deadline: deadline)
        }
        #expect(error?.code == .corrupt)
    }

    @Test("failures that pass are tried again, after as long as the registry asks", arguments: [429, 500, 503])
    func retries(status: Int) throws {
        let digest = registry.add(manifest: Self.empty)
        let failures = Counter(2)
        registry.change { $0.script = { _ in failures.take() ? .init(status, headers: [("Retry-After", "7")]) : nil } }
        let slept = Log<Duration>()
        let client = try makeClient("\(registry.authority)/team/cache", slept: { slept.append($0) })
        _ = try client.manifest(digest, deadline: deadline)
        #expect(slept.all.count == 2)
        #expect(slept.all.allSatisfy { $0 >= .seconds(7) && $0 < .seconds(8) })
    }

    @Test("a registry that stays away is an error to try again later")
    func unavailable() throws {
        registry.server.stop()
        let error = #expect(throws: MCFSError.self) {
            try makeClient("\(registry.authority)/team/cache").resolve(deadline: deadline)
        }
        #expect(error?.code == .originUnavailable)
        #expect(error?.isTransient == true)
    }

    @Test("basic credentials are sent only when asked for, then with every request")
    func basic() throws {
        let folder = try TemporaryFolder()
        try folder.write(#"{"auths":{"\#(registry.authority)":{"auth":"dTpw"}}}"#, to: "config.json")
        let digest = registry.add(manifest: Self.empty, tag: "latest")
        registry.change { $0.authorization = "Basic dTpw" }
        let client = try makeClient("\(registry.authority)/team/cache", environment: ["DOCKER_CONFIG": folder.path])
        #expect(try client.resolve(deadline: deadline) == digest)
        _ = try client.manifest(digest, deadline: deadline)
        #expect(registry.server.requests.map { $0["Authorization"] } == [nil, "Basic dTpw", "Basic dTpw"])
    }

    @Test("a login after the refusal takes effect at once, and refused credentials are not sent twice in a request")
    func relogin() throws {
        let folder = try TemporaryFolder()
        let digest = registry.add(manifest: Self.empty)
        registry.change { $0.authorization = "Basic dTpuZXc=" }
        let client = try makeClient("\(registry.authority)/team/cache", environment: ["DOCKER_CONFIG": folder.path])
        let error = #expect(throws: MCFSError.self) { try client.manifest(digest, deadline: deadline) }
        #expect(error?.code == .unauthorized)
        #expect(error?.message.contains("docker login \(registry.authority)") == true)
        #expect(registry.log.count == 1)

        try folder.write(#"{"auths":{"\#(registry.authority)":{"auth":"dTpvbGQ="}}}"#, to: "config.json")
        let refused = #expect(throws: MCFSError.self) { try client.manifest(digest, deadline: deadline) }
        #expect(refused?.message.contains("old") == false)
        #expect(registry.log.count == 3)
        try folder.write(#"{"auths":{"\#(registry.authority)":{"auth":"dTpuZXc="}}}"#, to: "config.json")
        _ = try client.manifest(digest, deadline: deadline)
    }

    @Test("a bearer token comes from the realm, anonymously, is kept, and is renewed when refused")
    func bearer() throws {
        let tokens = try ScriptedServer { request in
            request["Authorization"] == nil ? .init(text: #"{"token":"t1","expires_in":300}"#) : .init(500)
        }
        registry.change {
            $0.authorization = "Bearer t1"
            $0.challenge = #"Bearer realm="\#(tokens.url)/token",service="s""#
        }
        let digest = registry.add(manifest: Self.empty, tag: "latest")
        let client = try makeClient("\(registry.authority)/team/cache")
        #expect(try client.resolve(deadline: deadline) == digest)
        _ = try client.manifest(digest, deadline: deadline)
        #expect(tokens.requests.map(\.target) == ["/token?service=s&scope=repository%3Ateam%2Fcache%3Apull"])

        // The registry forgets the token: the same one comes again, so there is nothing else to try.
        registry.change { $0.authorization = "Bearer t2" }
        let other = registry.add(manifest: Self.empty + " ")
        let error = #expect(throws: MCFSError.self) { try client.manifest(other, deadline: deadline) }
        #expect(error?.code == .unauthorized)
        #expect(tokens.requests.count == 2)
    }

    @Test(
        "a token server's refusal, endless answer or missing token is an error without secrets",
        arguments: [401, 200, 201])
    func tokenFailures(status: Int) throws {
        let tokens = try ScriptedServer { _ in
            switch status {
            case 401: .init(401, text: "SECRET")
            case 200: .init(200, body: [UInt8](repeating: 0x20, count: 1 << 20))
            default: .init(200, text: #"{"error":"SECRET"}"#)
            }
        }
        registry.change {
            $0.authorization = "Bearer t1"
            $0.challenge = #"Bearer realm="\#(tokens.url)/token?x=SECRET""#
        }
        let digest = registry.add(manifest: Self.empty)
        let error = #expect(throws: MCFSError.self) {
            try makeClient("\(registry.authority)/team/cache").manifest(digest, deadline: deadline)
        }
        #expect(error != nil)
        #expect(error?.message.contains("SECRET") == false)
        #expect(error?.code == (status == 401 ? .unauthorized : status == 200 ? .corrupt : .originUnavailable))
    }

    @Test("an index leads to the manifest for this host; one that leads in circles or too deep ends")
    func selects() throws {
        let manifest = registry.add(manifest: Self.empty)
        func entry(_ digest: Digest, _ platform: String) -> String {
            #"{"mediaType":"\#(MediaType.manifest)","digest":"\#(digest)","size":31,"platform":{\#(platform)}}"#
        }
        let index = registry.add(
            manifest: #"{"schemaVersion":2,"manifests":[\#(entry(manifest, #""os":"linux","architecture":"arm64""#))]}"#
        )
        let client = try makeClient("\(registry.authority)/team/cache")
        let arm = PlatformChoice(host: Platform(os: "linux", architecture: "aarch64"))
        let amd = PlatformChoice(host: Platform(os: "linux", architecture: "x86_64"))
        #expect(try client.select(index, for: arm, deadline: deadline).digest == manifest)
        let error = #expect(throws: MCFSError.self) { try client.select(index, for: amd, deadline: deadline) }
        #expect(error?.code == .notFound)
        #expect(error?.message.contains("only for: linux/arm64") == true)

        var deepest = index
        for _ in 0..<5 { deepest = registry.add(manifest: #"{"manifests":[\#(entry(deepest, ""))]}"#) }
        #expect(throws: MCFSError.self) { try client.select(deepest, for: arm, deadline: deadline) }
    }
}

/// Gives `true` a number of times.
final class Counter: Sendable {
    private let left: Lock<Int>

    init(_ count: Int) { left = Lock(count) }

    func take() -> Bool {
        left.withLock { left in
            left -= 1
            return left >= 0
        }
    }
}

final class Log<Element: Sendable>: Sendable {
    private let values = Lock<[Element]>([])

    var all: [Element] { values.withLock { $0 } }

    func append(_ value: Element) { values.withLock { $0.append(value) } }
}
