import MCFSCore
import MCFSTestSupport
import Testing

@testable import OCI

@Suite("Registry client: blobs", .timeLimit(.minutes(5)))
struct RegistryBlobTests {
    let registry: FakeRegistry
    let digest: Digest
    static let bytes = Array("0123456789abcdefghijklmnopqrstuvwxyz".utf8)

    init() throws {
        registry = try FakeRegistry()
        digest = registry.add(blob: Self.bytes)
    }

    private func blob(
        _ environment: [String: String] = [:], registry: FakeRegistry? = nil
    ) throws -> any ByteSource {
        try makeClient("\((registry ?? self.registry).authority)/team/cache", environment: environment)
            .blob(digest, size: UInt64(Self.bytes.count))
    }

    @Test("are read by ranges")
    func ranges() throws {
        let blob = try blob()
        #expect(try read(blob, ByteRange(3, 7)) == Array("3456".utf8))
        #expect(try read(blob, ByteRange(0, 36)) == Self.bytes)
        #expect(try read(blob, ByteRange(35, 36)) == [UInt8(ascii: "z")])
        #expect(try read(blob, ByteRange(5, 5)) == [])
        #expect(blob.hasRandomAccess)
    }

    @Test("outside of their size are refused without a request")
    func outside() throws {
        let error = #expect(throws: MCFSError.self) { try read(blob(), ByteRange(30, 37)) }
        #expect(error?.code == .corrupt)
        #expect(registry.log.isEmpty)
    }

    @Test("that are not there are named")
    func missing() throws {
        let absent = Digest.sha256(of: [])
        let error = #expect(throws: MCFSError.self) {
            try read(makeClient("\(registry.authority)/team/cache").blob(absent, size: 5), ByteRange(0, 5))
        }
        #expect(error?.code == .notFound)
        #expect(error?.message.contains("no blob \(absent)") == true)
    }

    @Test("from a redirect go to the storage without credentials, and straight to it from then on")
    func redirects() throws {
        let storage = try ScriptedServer { request in
            request["Authorization"] == nil && request["X-Registry"] == nil
                ? .file(Self.bytes, for: request) : .init(400)
        }
        let folder = try TemporaryFolder()
        try folder.write(#"{"auths":{"\#(registry.authority)":{"auth":"dTpw"}}}"#, to: "config.json")
        try folder.write(
            "[header]\nX-Registry = \"secret\"\n", to: "certs/\(registry.authority)/hosts.toml")
        registry.change {
            $0.script = { request in
                guard request["Authorization"] == "Basic dTpw", request["X-Registry"] == "secret" else { return nil }
                return .init(307, headers: [("Location", "\(storage.url)/signed?X-Signature=a%2Fb")])
            }
            $0.authorization = "Basic dTpw"
        }
        let blob = try blob(["DOCKER_CONFIG": folder.path, "MCFS_CERTS_DIR": "\(folder.path)/certs"])
        for _ in 0..<3 { #expect(try read(blob, ByteRange(10, 14)) == Array("abcd".utf8)) }
        #expect(registry.log.count == 2)
        #expect(storage.requests.map(\.target) == Array(repeating: "/signed?X-Signature=a%2Fb", count: 3))
        #expect(storage.requests.allSatisfy { $0["Range"] == "bytes=10-13" })
    }

    @Test("whose signed URL has expired are asked for again, once", arguments: [400, 401, 403, 404])
    func expires(status: Int) throws {
        let uses = Counter(1)
        let storage = try ScriptedServer { request in
            if request.target == "/1", !uses.take() {
                return .init(status, headers: [("WWW-Authenticate", #"Basic realm="phishing""#)])
            }
            return .file(Self.bytes, for: request)
        }
        let first = Counter(1)
        registry.change {
            $0.script = { _ in .init(302, headers: [("Location", "\(storage.url)/\(first.take() ? 1 : 2)")]) }
        }
        let blob = try blob()
        #expect(try read(blob, ByteRange(0, 4)) == Array("0123".utf8))
        #expect(try read(blob, ByteRange(4, 8)) == Array("4567".utf8))
        #expect(storage.requests.map(\.target) == ["/1", "/1", "/2"])
        #expect(registry.log.count == 2)
    }

    @Test("that the storage refuses for good are an error without the signature")
    func storageRefuses() throws {
        let storage = try ScriptedServer { _ in .init(403, text: "SECRET") }
        registry.change { $0.script = { _ in .init(307, headers: [("Location", "\(storage.url)/x?sig=SECRET")]) } }
        let error = #expect(throws: MCFSError.self) { try read(blob(), ByteRange(0, 4)) }
        #expect(error?.code == .originUnavailable)
        #expect(error?.message.contains("SECRET") == false)
        #expect(error?.message.contains("HTTP 403") == true)
    }

    @Test(
        "redirected in circles, to nowhere or to files are refused",
        arguments: ["/loop", "file:///etc/passwd", "", "http://user:SECRET@127.0.0.1/"])
    func badRedirects(location: String) throws {
        registry.change { $0.script = { _ in .init(307, headers: [("Location", location)]) } }
        let error = #expect(throws: MCFSError.self) { try read(blob(), ByteRange(0, 4)) }
        #expect(error?.code == .originUnavailable)
        #expect(error?.message.contains("SECRET") == false)
        #expect(registry.log.count <= RegistryClient.redirectsMax + 1)
    }

    @Test("redirected within the registry keep the credentials")
    func redirectsAtHome() throws {
        let folder = try TemporaryFolder()
        try folder.write(#"{"auths":{"\#(registry.authority)":{"auth":"dTpw"}}}"#, to: "config.json")
        registry.change {
            $0.authorization = "Basic dTpw"
            $0.script = { request in
                guard request["Authorization"] == "Basic dTpw" else { return nil }
                return request.path == "/elsewhere"
                    ? .file(Self.bytes, for: request) : .init(308, headers: [("Location", "/elsewhere")])
            }
        }
        #expect(try read(blob(["DOCKER_CONFIG": folder.path]), ByteRange(0, 4)) == Array("0123".utf8))
    }

    @Test("from a registry that ignores ranges, cuts transfers or fails for a while come all the same")
    func faults() throws {
        let step = Log<Int>()
        registry.change {
            $0.script = { request in
                step.append(0)
                return switch step.all.count {
                case 1: .init(503)
                case 2: .file(Self.bytes, for: request).delivered(.close(after: 3))
                case 3: .init(200, body: Self.bytes)
                default: .init(500)
                }
            }
        }
        #expect(try read(blob(), ByteRange(8, 20)) == Array("89abcdefghij".utf8))
    }

    @Test("of another size than the manifest says are refused")
    func wrongSize() throws {
        let client = try makeClient("\(registry.authority)/team/cache")
        #expect(throws: MCFSError.self) { try read(client.blob(digest, size: 40), ByteRange(0, 4)) }
        #expect(throws: MCFSError.self) { try read(client.blob(digest, size: 40), ByteRange(37, 40)) }
    }

    @Test("come from a mirror, which gets the registry's name but not its credentials")
    func mirror() throws {
        let mirror = try FakeRegistry()
        mirror.add(blob: Self.bytes)
        let folder = try TemporaryFolder()
        try folder.write(#"{"auths":{"\#(registry.authority)":{"auth":"dTpw"}}}"#, to: "config.json")
        try folder.write(
            "[host.\"http://\(mirror.authority)\"]\n", to: "certs/\(registry.authority)/hosts.toml")
        let environment = ["DOCKER_CONFIG": folder.path, "MCFS_CERTS_DIR": "\(folder.path)/certs"]
        let blob = try blob(environment)
        #expect(try read(blob, ByteRange(0, 4)) == Array("0123".utf8))
        #expect(registry.log.isEmpty)
        #expect(mirror.server.requests.map(\.query) == ["ns=127.0.0.1%3A\(registry.server.port)"])

        // A mirror that wants credentials which only the registry has is passed over.
        mirror.change { $0.authorization = "Basic dTpw" }
        #expect(try read(blob, ByteRange(0, 4)) == Array("0123".utf8))
        #expect(mirror.server.requests.allSatisfy { $0["Authorization"] == nil })
        #expect(registry.log == ["GET blobs/\(digest)"])
        // And left alone for a while.
        let asked = mirror.server.requests.count
        #expect(try read(blob, ByteRange(0, 4)) == Array("0123".utf8))
        #expect(mirror.server.requests.count == asked)
    }

    @Test(
        "from a mirror that lacks, cuts or forges them come from the registry",
        arguments: ["404", "cut", "gone", "short"])
    func badMirror(fault: String) throws {
        let mirror = try FakeRegistry()
        mirror.change {
            $0.script = { request in
                switch fault {
                case "404": .init(404)
                case "cut": .file(Self.bytes, for: request).delivered(.reset(after: 5))
                case "short": .file([1, 2, 3], for: request)
                default: .init(500)
                }
            }
        }
        let folder = try TemporaryFolder()
        try folder.write("[host.\"http://\(mirror.authority)\"]\n", to: "\(registry.authority)/hosts.toml")
        if fault == "gone" { mirror.server.stop() }
        let blob = try blob(["MCFS_CERTS_DIR": folder.path])
        #expect(try read(blob, ByteRange(0, 20)) == Array(Self.bytes[..<20]))
        #expect(registry.log == ["GET blobs/\(digest)"])
    }

    @Test("a mirror without the capability to resolve is not asked what a tag is")
    func capabilities() throws {
        let mirror = try FakeRegistry()
        let manifest = registry.add(manifest: RegistryClientTests.empty, tag: "latest")
        mirror.add(manifest: RegistryClientTests.empty, tag: "latest")
        let folder = try TemporaryFolder()
        try folder.write(
            "[host.\"http://\(mirror.authority)\"]\ncapabilities = [\"pull\"]\n", to: "\(registry.authority)/hosts.toml"
        )
        let client = try makeClient("\(registry.authority)/team/cache", environment: ["MCFS_CERTS_DIR": folder.path])
        #expect(try client.resolve(deadline: Deadline(after: .seconds(20))) == manifest)
        _ = try client.manifest(manifest, deadline: Deadline(after: .seconds(20)))
        #expect(registry.log == ["HEAD manifests/latest"])
        #expect(mirror.log.count == 1)
    }
}
