import Catalog
import Glibc
import Logging
import MCFSCore
import MCFSTestSupport
import Synchronization

@testable import Origins
@testable import Transport

/// A folder that goes with its owner.
final class ScratchFolder: Sendable {
    let path: String

    init() {
        var template = Array("/tmp/mcfs-origins-XXXXXX".utf8CString)
        path = mkdtemp(&template).map { String(cString: $0) } ?? "/tmp/mcfs-origins"
    }

    deinit {
        // nftw takes no closure that captures; the shell is everywhere.
        var child: pid_t = 0
        var arguments: [UnsafeMutablePointer<CChar>?] =
            ["rm", "-rf", path].map { (word: String) in strdup(word) } + [nil]
        defer { for pointer in arguments { free(pointer) } }
        if posix_spawnp(&child, "rm", nil, nil, &arguments, environ) == 0 { waitpid(child, nil, 0) }
    }

    /// Writes a file below the folder and returns its path.
    @discardableResult
    func write(_ name: String, _ text: String) throws(Errno) -> String {
        try write(name, Array(text.utf8))
    }

    @discardableResult
    func write(_ name: String, _ bytes: [UInt8]) throws(Errno) -> String {
        let file = "\(path)/\(name)"
        let descriptor = try OwnedDescriptor.open(file, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
        let result: Result<Void, Errno> = bytes.withUnsafeBytes { bytes in
            if bytes.isEmpty { return .success(()) }
            do throws(Errno) { return .success(try descriptor.write(bytes, at: 0)) } catch { return .failure(error) }
        }
        try result.get()
        return file
    }
}

final class ByteCollector: ByteSink {
    private let collected = Lock<[UInt8]>([])
    var bytes: [UInt8] { collected.withLock { $0 } }
    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        collected.withLock { $0.append(contentsOf: bytes) }
    }
}

extension ByteSource {
    func collect(_ range: ByteRange) throws(MCFSError) -> [UInt8] {
        let sink = ByteCollector()
        try read(range, deadline: Deadline(after: .seconds(20)), into: sink)
        return sink.bytes
    }
}

private final class NoContent: ContentSink {
    func beginContent(id: BlobID?, size: UInt64) throws(MCFSError) -> any ContentWriter {
        throw MCFSError(.unsupported, "no content is expected")
    }
}

private final class NoProgress: ProgressReporter {
    func report(phase: String, done: UInt64, total: UInt64?) {}
}

/// Keeps what it is told.
final class Warnings: ProgressReporter {
    private let messages = Lock<[String]>([])
    var all: [String] { messages.withLock { $0 } }
    func report(phase: String, done: UInt64, total: UInt64?) {}
    func warn(_ message: String) { messages.withLock { $0.append(message) } }
}

/// What `tree` needs, in a scratch folder.
func scratchLoading(
    _ folder: ScratchFolder, progress: any ProgressReporter = NoProgress()
) throws(MCFSError) -> TreeLoading {
    TreeLoading(
        content: NoContent(), catalog: CatalogHints(try Catalog(directory: folder.path)) { _ in }, progress: progress,
        deadline: Deadline(after: .seconds(30)))
}

extension Tree {
    /// Every entry but the root, as `path` (folders end in `/`), in the tree's order.
    var listing: [String] {
        (1..<Tree.Index(count)).map { entry in
            "\(path(of: entry))" + (attributes(of: entry).kind == .directory ? "/" : "")
        }
    }
}

let quietLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// The error that `body` throws; nil where it throws none.
func refusal(_ body: () throws(MCFSError) -> Void) -> MCFSError? {
    do throws(MCFSError) {
        try body()
        return nil
    } catch {
        return error
    }
}

/// An S3 server for tests: path style, one bucket, listings and ranged reads; checks every signature, refuses what the
/// real one only tolerates.
final class StubS3: Sendable {
    struct Object: Sendable {
        var bytes: [UInt8]
        var etag: String
        var modified = "2026-01-02T03:04:05.678Z"
        /// As `GetObject` says it; nil: not at all.
        var lastModified: String? = "Fri, 02 Jan 2026 03:04:05 GMT"
        /// What it is sent as to who does not accept gzip.
        var decoded: [UInt8]?
    }

    struct Behaviour: Sendable {
        var objects: [String: Object] = [:]
        var pageSize = 1000
        /// nil: anybody may read.
        var key: AWSSigner.Key? = AWSSigner.Key(accessKeyID: "AKSTUB", secretAccessKey: "stub-secret")
        var region = "us-east-1"
        var ignoresIfMatch = false
        /// The server's clock, in seconds since 1970; nil: the real one.
        var clock: Int64?
        /// Answers given before anything else.
        var faults: [ScriptedServer.Answer] = []
    }

    let behaviour: Lock<Behaviour>
    private let started = Lock<ScriptedServer?>(nil)

    init(_ behaviour: Behaviour) throws {
        self.behaviour = Lock(behaviour)
        let server = try ScriptedServer { [weak self] in self?.answer($0) ?? ScriptedServer.Answer(500) }
        started.withLock { $0 = server }
    }

    convenience init(_ files: [String: String], pageSize: Int = 1000) throws {
        var behaviour = Behaviour()
        behaviour.pageSize = pageSize
        for (key, text) in files {
            behaviour.objects[key] = Object(
                bytes: Array(text.utf8), etag: "\"\(Digest.sha256(of: Array(text.utf8)).hex.prefix(8))\"")
        }
        try self.init(behaviour)
    }

    var url: String { started.withLock { $0?.url ?? "" } }
    var requests: [ScriptedServer.Request] { started.withLock { $0?.requests ?? [] } }

    /// Variables that lead to the server, and nowhere else.
    var environment: Environment {
        Environment([
            "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "AKSTUB", "AWS_SECRET_ACCESS_KEY": "stub-secret",
            "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent",
        ])
    }

    private func answer(_ request: ScriptedServer.Request) -> ScriptedServer.Answer {
        let current = behaviour.withLock { behaviour in
            let copy = behaviour
            if !behaviour.faults.isEmpty { behaviour.faults.removeFirst() }
            return copy
        }
        if let fault = current.faults.first { return fault }
        if let refused = authorise(request, current) { return refused }
        let path = request.path.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).last ?? ""
        let parts = path.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.first == "bucket" else { return Self.error(404, "NoSuchBucket") }
        let key = parts.count > 1 ? String(decoding: AWSSigner.decoded(parts[1].utf8), as: UTF8.self) : ""
        return key.isEmpty ? list(request, current) : get(key, request, current)
    }

    static func error(_ status: Int, _ code: String, _ more: String = "", headers: [(String, String)] = [])
        -> ScriptedServer.Answer
    {
        ScriptedServer.Answer(
            status,
            headers: headers.map { (name: $0.0, value: $0.1) } + [(name: "Content-Type", value: "application/xml")],
            text:
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>\(code)</Code><Message>m</Message>\(more)</Error>"
        )
    }

    private func authorise(_ request: ScriptedServer.Request, _ behaviour: Behaviour) -> ScriptedServer.Answer? {
        guard let key = behaviour.key else { return nil }
        guard let authorization = request["Authorization"], let stamp = request["x-amz-date"] else {
            return Self.error(403, "AccessDenied")
        }
        guard authorization.contains("Credential=\(key.accessKeyID)/") else {
            return Self.error(403, "InvalidAccessKeyId")
        }
        guard authorization.contains("/\(behaviour.region)/s3/aws4_request") else {
            return Self.error(400, "AuthorizationHeaderMalformed", "<Region>\(behaviour.region)</Region>")
        }
        let names =
            authorization.split(separator: "SignedHeaders=").last?.prefix { $0 != "," }.split(separator: ";") ?? []
        guard names.contains("x-amz-content-sha256"), request["If-Match"] == nil || names.contains("if-match"),
            let time = Self.time(stamp)
        else { return Self.error(403, "SignatureDoesNotMatch") }
        if let clock = behaviour.clock, abs(clock - time) > 900 {
            return Self.error(403, "RequestTimeTooSkewed", headers: [("Date", "Fri, 24 May 2013 00:00:00 GMT")])
        }
        let headers = request.headers.filter { names.contains(Substring($0.name.lowercased())) }
        let again = AWSSigner(key: key, region: behaviour.region, service: "s3").signed(
            HTTPRequest(request.method, "http://\(request["Host"] ?? "")\(request.target)", headers: headers),
            at: Timestamp(seconds: time))
        let expected = again.headers.last { $0.name == "Authorization" }?.value
        return expected == authorization ? nil : Self.error(403, "SignatureDoesNotMatch")
    }

    private static func time(_ stamp: String) -> Int64? {
        let digits = Array(stamp)
        guard digits.count == 16 else { return nil }
        func text(_ range: Range<Int>) -> String { String(digits[range]) }
        return S3Time.timestamp(
            rfc3339: "\(text(0..<4))-\(text(4..<6))-\(text(6..<8))T\(text(9..<11)):\(text(11..<13)):\(text(13..<15))Z")?
            .seconds
    }

    private func list(_ request: ScriptedServer.Request, _ behaviour: Behaviour) -> ScriptedServer.Answer {
        var fields: [String: String] = [:]
        for pair in request.query?.split(separator: "&") ?? [] {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            fields[String(parts[0])] = String(decoding: AWSSigner.decoded((parts.last ?? "").utf8), as: UTF8.self)
        }
        guard fields["list-type"] == "2", fields["encoding-type"] == "url", let count = Int(fields["max-keys"] ?? ""),
            count <= 1000
        else { return Self.error(400, "InvalidArgument") }
        let keys = behaviour.objects.keys.filter { $0.utf8.starts(with: (fields["prefix"] ?? "").utf8) }
            .sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        // The token needs encoding, as the real ones do.
        let start = fields["continuation-token"].flatMap { Int($0.dropFirst(4)) } ?? 0
        let end = min(start + min(count, behaviour.pageSize), keys.count)
        var body =
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
        body += "<Name>bucket</Name><EncodingType>url</EncodingType><IsTruncated>\(end < keys.count)</IsTruncated>"
        if end < keys.count { body += "<NextContinuationToken>t+/=\(end)</NextContinuationToken>" }
        for key in keys[min(start, end)..<end] {
            let name = AWSSigner.encoded(key.utf8, keepingSlashes: true).split(separator: "%20").joined(separator: "+")
            let object = behaviour.objects[key] ?? Object(bytes: [], etag: "")
            body += "<Contents><Key>\(name)</Key><LastModified>\(behaviour.objects[key]?.modified ?? "")</LastModified>"
            body += "<ETag>\(object.etag.split(separator: "\"").map { "&quot;\($0)&quot;" }.joined())</ETag>"
            body += "<Size>\(object.bytes.count)</Size><StorageClass>STANDARD</StorageClass></Contents>"
        }
        return ScriptedServer.Answer(
            200, headers: [(name: "Content-Type", value: "application/xml")], text: body + "</ListBucketResult>")
    }

    private func get(_ key: String, _ request: ScriptedServer.Request, _ behaviour: Behaviour) -> ScriptedServer.Answer
    {
        guard let object = behaviour.objects[key] else { return Self.error(404, "NoSuchKey") }
        if let wanted = request["If-Match"], wanted != object.etag, !behaviour.ignoresIfMatch {
            return Self.error(412, "PreconditionFailed")
        }
        if let decoded = object.decoded, request["Accept-Encoding"] != "gzip" {
            return ScriptedServer.Answer(
                200,
                headers: [(name: "ETag", value: object.etag), (name: "x-goog-stored-content-encoding", value: "gzip")],
                body: decoded, delivery: .chunked)
        }
        guard let range = request.range(ofSize: object.bytes.count) else { return Self.error(416, "InvalidRange") }
        var headers = [
            (name: "ETag", value: object.etag),
            (name: "Content-Range", value: "bytes \(range.lowerBound)-\(range.upperBound)/\(object.bytes.count)"),
            // Of the whole object, which is wrong for a range; rclone's server does so.
            (name: "x-amz-checksum-crc32", value: "AAAAAA=="),
        ]
        if let time = object.lastModified { headers.append((name: "Last-Modified", value: time)) }
        if object.decoded != nil { headers.append((name: "Content-Encoding", value: "gzip")) }
        return ScriptedServer.Answer(206, headers: headers, body: Array(object.bytes[range]))
    }
}
