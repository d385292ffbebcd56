import Catalog
import Glibc
import MCFSCore
import Testing

@testable import Origins
@testable import Transport

/// A server program that runs for one test, on its own ports and folder.
private final class ServerProgram: Sendable {
    let url: String
    private let child: pid_t

    /// The program's path; nil where it is not installed.
    static func path(_ name: String) -> String? {
        let path = getenv("PATH").map { String(cString: $0) } ?? ""
        return path.split(separator: ":").map { "\($0)/\(name)" }.first { (file: String) in access(file, X_OK) == 0 }
    }

    struct NotStarted: Error {}

    /// Returns once the server answers HTTP.
    init(_ arguments: [String], port: UInt16, http: HTTPClient) throws {
        url = "http://127.0.0.1:\(port)"
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        var words = arguments.map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var child: pid_t = 0
        guard posix_spawn(&child, arguments[0], &actions, nil, &words, environ) == 0 else { throw NotStarted() }
        self.child = child
        let deadline = Deadline(after: .seconds(45))
        while true {
            let answer = try? http.perform(HTTPRequest("GET", url), deadline: Deadline(after: .seconds(5)))
            if let answer, answer.status < 500 { return }
            guard !deadline.hasPassed, waitpid(child, nil, WNOHANG) == 0 else { throw NotStarted() }
            deadline.sleep(.milliseconds(100))
        }
    }

    deinit {
        kill(child, SIGKILL)
        waitpid(child, nil, 0)
    }

    /// Ports that nobody listens on now, low enough for the ones at a distance of 10000 that some servers add.
    static func freePorts(_ count: Int) -> [UInt16] {
        var ports: [UInt16] = []
        while ports.count < count {
            let port = UInt16.random(in: 20000..<32000)
            let probe = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
            defer { close(probe) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
            let isFree = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(probe, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
                }
            }
            if isFree, !ports.contains(port) { ports.append(port) }
        }
        return ports
    }
}

/// Real servers judge the client: signatures, encodings, listings, ranges.
@Suite("S3 servers", .serialized, .timeLimit(.minutes(5)))
struct S3ServersTests {
    let scratch = ScratchFolder()
    let http = HTTPClient()
    static let key = AWSSigner.Key(accessKeyID: "AKTESTKEY", secretAccessKey: "SKTESTSECRET")

    @Test("SeaweedFS", .enabled(if: ServerProgram.path("weed") != nil))
    func weed() throws {
        let program = try #require(ServerProgram.path("weed"))
        let identities = try scratch.write(
            "s3.json",
            """
            {"identities": [{"name": "t", "credentials": [{"accessKey": "AKTESTKEY", "secretKey": "SKTESTSECRET"}],
              "actions": ["Admin", "Read", "Write", "List"]}]}
            """)
        mkdir(scratch.path + "/data", 0o755)
        let ports = ServerProgram.freePorts(4)
        let server = try ServerProgram(
            [
                program, "server", "-dir=\(scratch.path)/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                "-master.port=\(ports[0])", "-volume.port=\(ports[1])", "-filer", "-filer.port=\(ports[2])", "-s3",
                "-s3.port=\(ports[3])", "-s3.config=\(identities)", "-master.volumeSizeLimitMB=16",
                // Their ports are fixed ones.
                "-s3.port.iceberg=0", "-s3.port.lance=0",
            ], port: ports[3], http: http)
        try judge(server.url)
    }

    @Test(
        "rclone, which ignores If-Match and sends the whole object's checksum with a range",
        .enabled(if: ServerProgram.path("rclone") != nil))
    func rclone() throws {
        let program = try #require(ServerProgram.path("rclone"))
        mkdir(scratch.path + "/data", 0o755)
        let port = ServerProgram.freePorts(1)[0]
        let server = try ServerProgram(
            [
                program, "serve", "s3", "--config", scratch.path + "/rclone.conf", "--addr", "127.0.0.1:\(port)",
                "--auth-key",
                "AKTESTKEY,SKTESTSECRET", scratch.path + "/data",
            ], port: port, http: http)
        try judge(server.url)
    }

    private func environment(_ url: String) -> Environment {
        Environment([
            "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "AKTESTKEY", "AWS_SECRET_ACCESS_KEY": "SKTESTSECRET",
            "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent",
        ])
    }

    private func put(_ url: String, _ path: String, _ body: [UInt8], isRequired: Bool = true) throws {
        let request = HTTPRequest(
            "PUT", "\(url)/\(AWSSigner.encoded(path.utf8, keepingSlashes: true))", body: body)
        // A server that just started may still be gathering its parts.
        let deadline = Deadline(after: .seconds(30))
        while true {
            let signed = AWSSigner(key: Self.key, region: "us-east-1", service: "s3").signed(request, at: S3Clock.now())
            let status = try http.perform(signed, deadline: Deadline(after: .seconds(20))).status
            if status == 200 || (status == 409 && !isRequired) { return }
            try #require(status >= 500 && !deadline.hasPassed, "HTTP \(status)")
            deadline.sleep(.milliseconds(200))
        }
    }

    private func judge(_ url: String) throws {
        let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 9) }
        let names = ["b c/ü+%&=?#.bin", "plain", "$@!*'()~;:,"]
        try put(url, "bkt", [], isRequired: false)
        for name in names { try put(url, "bkt/m/\(name)", bytes) }
        try put(url, "bkt/m/empty", [])
        try put(url, "bkt/mx", [1])

        let origin = try S3Origin("s3://bkt/m", environment: environment(url), http: http, logger: quietLogger)
        let resolution = try origin.resolve(deadline: Deadline(after: .seconds(20)))
        #expect(try origin.resolve(deadline: Deadline(after: .seconds(20))).treeKey == resolution.treeKey)
        let tree = try origin.tree(of: resolution, loading: try scratchLoading(scratch))
        #expect(Set(tree.listing) == Set(names + ["b c/", "empty"]))
        for name in names {
            let source = try source(name, tree, origin, resolution)
            #expect(try source.collect(ByteRange(0, UInt64(bytes.count))) == bytes)
            #expect(try source.collect(ByteRange(100_000, 100_010)) == Array(bytes[100_000..<100_010]))
        }

        let old = try source("plain", tree, origin, resolution)
        try put(url, "bkt/m/plain", bytes.reversed())
        #expect(refusal { () throws(MCFSError) in _ = try old.collect(ByteRange(0, 10)) }?.code == .changed)

        let single = try S3Origin("s3://bkt/m/plain", environment: environment(url), http: http, logger: quietLogger)
        let one = try single.resolve(deadline: Deadline(after: .seconds(20)))
        #expect(try single.tree(of: one, loading: try scratchLoading(scratch)).listing == ["plain"])

        #expect(code("s3://bkt/none", environment(url)) == .notFound)
        #expect(code("s3://nobucket/x", environment(url)) == .notFound)
        var wrong = environment(url)
        wrong.variables["AWS_SECRET_ACCESS_KEY"] = "wrong"
        #expect(code("s3://bkt/m", wrong) == .unauthorized)
        wrong.variables["AWS_ACCESS_KEY_ID"] = nil
        wrong.variables["AWS_SECRET_ACCESS_KEY"] = nil
        #expect(code("s3://bkt/m", wrong) == .unauthorized)
    }

    private func source(
        _ name: String, _ tree: Tree, _ origin: S3Origin, _ resolution: Catalog.Resolution
    ) throws -> any ByteSource {
        let entry = try #require(tree.entry(at: TreePath(name)))
        let content = try #require(tree.content(of: entry))
        return try origin.source(tree.sources[content.source], of: resolution)
    }

    private func code(_ reference: String, _ environment: Environment) -> MCFSError.Code? {
        refusal { () throws(MCFSError) in
            let origin = try S3Origin(reference, environment: environment, http: http, logger: quietLogger)
            _ = try origin.resolve(deadline: Deadline(after: .seconds(20)))
        }?.code
    }
}
