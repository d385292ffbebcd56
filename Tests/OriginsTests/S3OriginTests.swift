import Catalog
import MCFSCore
import MCFSTestSupport
import Synchronization
import Testing

@testable import Origins
@testable import Transport

@Suite("S3 origin", .timeLimit(.minutes(5)))
struct S3OriginTests {
    let scratch = ScratchFolder()
    let http = HTTPClient()

    private func origin(_ reference: String, _ stub: StubS3) throws -> S3Origin {
        try S3Origin(reference, environment: stub.environment, http: http, logger: quietLogger, pause: { _ in })
    }

    private func tree(_ reference: String, _ stub: StubS3) throws -> (Tree, S3Origin, Catalog.Resolution) {
        let origin = try origin(reference, stub)
        let resolution = try origin.resolve(deadline: Deadline(after: .seconds(20)))
        return (try origin.tree(of: resolution, loading: try scratchLoading(scratch)), origin, resolution)
    }

    @Test("a folder is listed page by page and presented without its prefix")
    func folder() throws {
        let stub = try StubS3(
            ["m/a": "1", "m/b c/ü+%.bin": "22", "m/b c/z": "333", "mx": "4", "m/y": "", "other/q": "5"], pageSize: 2)
        let (tree, _, resolution) = try tree("s3://bucket/m", stub)
        #expect(tree.listing == ["a", "b c/", "y", "b c/z", "b c/ü+%.bin"])
        #expect(stub.requests.count == 2)
        #expect(resolution.resolved == "s3://bucket/m")
        #expect(resolution.treeKey.hasPrefix("s3-"))
        let file = try #require(tree.entry(at: TreePath("b c/z")))
        let attributes = tree.attributes(of: file)
        #expect(attributes.permissions == 0o644 && attributes.size == 3)
        #expect(attributes.modified == Timestamp(seconds: 1_767_323_045, nanoseconds: 678_000_000))
    }

    @Test("ranges of an object are read with its ETag")
    func ranges() throws {
        let stub = try StubS3(["m/b c/ü+%.bin": "0123456789"])
        let (tree, origin, resolution) = try tree("s3://bucket/m/", stub)
        let file = try #require(tree.entry(at: TreePath("b c/ü+%.bin")))
        let content = try #require(tree.content(of: file))
        #expect(tree.sources[content.source]["kind"] == "s3")
        let source = try origin.source(tree.sources[content.source], of: resolution)
        #expect(try source.collect(ByteRange(2, 5)) == Array("234".utf8))
        #expect(try source.collect(ByteRange(0, 10)) == Array("0123456789".utf8))
        #expect(try source.collect(ByteRange(4, 4)) == [])
        #expect(stub.requests.last?["If-Match"] == tree.sources[content.source]["etag"])
        #expect(stub.requests.last?.path == "/bucket/m/b%20c/%C3%BC%2B%25.bin")
    }

    @Test("an object that was replaced is an error, also where the server ignores If-Match", arguments: [false, true])
    func replaced(ignoresIfMatch: Bool) throws {
        let stub = try StubS3(["a": "old"])
        let (tree, origin, resolution) = try tree("s3://bucket", stub)
        stub.behaviour.withLock {
            $0.ignoresIfMatch = ignoresIfMatch
            $0.objects["a"] = StubS3.Object(bytes: Array("new".utf8), etag: "\"other\"")
        }
        let source = try origin.source(tree.sources[0], of: resolution)
        let error = refusal { () throws(MCFSError) in _ = try source.collect(ByteRange(0, 3)) }
        #expect(error?.code == .changed)
        #expect(error?.isTransient == false)
    }

    @Test("the key of one object presents that one file")
    func oneObject() throws {
        let stub = try StubS3(["m/weights.bin": "abc", "m/weights.bin.sha": "x"])
        let (tree, _, _) = try tree("s3://bucket/m/weights.bin", stub)
        #expect(tree.listing == ["weights.bin"])
    }

    @Test("the same objects give the same key; another ETag, size, time, name or prefix gives another")
    func keys() throws {
        let stub = try StubS3(["m/a": "1", "m/b": "2"], pageSize: 1)
        func keys(_ reference: String = "s3://bucket/m") throws -> Set<String> {
            let (tree, _, resolution) = try tree(reference, stub)
            let (short, long) = (try TreePath("a"), try TreePath("m/a"))
            let entry = try #require(tree.entry(at: short) ?? tree.entry(at: long))
            return [resolution.treeKey, try #require(tree.content(of: entry)).id.description]
        }
        let first = try keys()
        #expect(try keys() == first)
        #expect(try keys("s3://bucket").isDisjoint(with: first) == false, "a place has one identity below any prefix")
        let changes: [(inout StubS3.Object) -> Void] = [
            { $0.etag = "\"v2\"" }, { $0.bytes += [1] }, { $0.modified = "2026-01-02T03:04:06.678Z" },
            { $0.modified = "2026-01-02T03:04:06.679Z" }, { $0.etag = "" },
        ]
        var seen = first
        for change in changes {
            var object = try #require(stub.behaviour.withLock { $0.objects["m/a"] })
            change(&object)
            stub.behaviour.withLock { [object] in $0.objects["m/a"] = object }
            let now = try keys()
            #expect(now.isDisjoint(with: seen))
            seen.formUnion(now)
        }
    }

    @Test(
        "an object that was replaced by one of the same size and ETag is told by its time", arguments: ["", "\"same\""])
    func replacedInTime(etag: String) throws {
        let stub = try StubS3(["a": "old"])
        stub.behaviour.withLock { $0.objects["a"]?.etag = etag }
        let (tree, origin, resolution) = try tree("s3://bucket", stub)
        let source = try origin.source(tree.sources[0], of: resolution)
        for time in [nil, "Fri, 02 Jan 2026 03:04:05 GMT", "Fri, 02 Jan 2026 03:04:06 GMT", "no time"] {
            stub.behaviour.withLock { $0.objects["a"]?.lastModified = time }
            #expect(try source.collect(ByteRange(0, 3)) == Array("old".utf8))
        }
        for time in ["Fri, 02 Jan 2026 03:04:04 GMT", "Fri, 02 Jan 2026 03:04:07 GMT"] {
            stub.behaviour.withLock { $0.objects["a"]?.lastModified = time }
            let error = refusal { () throws(MCFSError) in _ = try source.collect(ByteRange(0, 3)) }
            #expect(error?.code == .changed)
        }
    }

    @Test("an object that the server would send decoded is asked for as it is stored")
    func storedEncoding() throws {
        let stub = try StubS3(["a": "stored bytes"])
        stub.behaviour.withLock { $0.objects["a"]?.decoded = Array("stored bytes and many more of them".utf8) }
        let (tree, origin, resolution) = try tree("s3://bucket", stub)
        let source = try origin.source(tree.sources[0], of: resolution)
        #expect(try source.collect(ByteRange(0, 6)) == Array("stored".utf8))
        #expect(try source.collect(ByteRange(7, 12)) == Array("bytes".utf8))
        // One for the listing, one that was sent decoded, and the two ranges.
        #expect(stub.requests.count == 4)
    }

    @Test("a listing that changes between resolve and tree is an error")
    func changedListing() throws {
        let stub = try StubS3(["a": "1"])
        let origin = try origin("s3://bucket", stub)
        let old = try origin.resolve(deadline: Deadline(after: .seconds(20)))
        stub.behaviour.withLock { $0.objects["b"] = $0.objects["a"] }
        _ = try origin.resolve(deadline: Deadline(after: .seconds(20)))
        let loading = try scratchLoading(scratch)
        #expect(refusal { () throws(MCFSError) in _ = try origin.tree(of: old, loading: loading) }?.code == .changed)
    }

    @Test(
        "a missing bucket and a prefix without keys are not found",
        arguments: ["s3://nobucket/x", "s3://bucket/none", "s3://bucket/no/"])
    func missing(reference: String) throws {
        let stub = try StubS3(["a": "1"])
        let origin = try origin(reference, stub)
        let error = refusal { () throws(MCFSError) in _ = try origin.resolve(deadline: Deadline(after: .seconds(20))) }
        #expect(error?.code == .notFound)
    }

    @Test("the region that the server names is used and remembered")
    func region() throws {
        let stub = try StubS3(["a": "123"])
        stub.behaviour.withLock { $0.region = "eu-central-9" }
        let (tree, origin, resolution) = try tree("s3://bucket", stub)
        #expect(stub.requests.count == 2)
        #expect(tree.sources[0]["region"] == "eu-central-9")
        let source = try origin.source(tree.sources[0], of: resolution)
        #expect(try source.collect(ByteRange(0, 3)) == Array("123".utf8))
        #expect(stub.requests.count == 3)
    }

    @Test("a wrong clock is corrected by the server's date, once")
    func clock() throws {
        let stub = try StubS3(["a": "123"])
        stub.behaviour.withLock { $0.clock = 1_369_353_600 }
        let (_, origin, resolution) = try tree("s3://bucket", stub)
        #expect(stub.requests.count == 2)
        stub.behaviour.withLock { $0.clock = 0 }
        let error = refusal { () throws(MCFSError) in _ = try origin.resolve(deadline: Deadline(after: .seconds(20))) }
        #expect(error?.message.contains("clock") == true)
        #expect(stub.requests.count == 4)
        #expect(resolution.resolved == "s3://bucket")
    }

    @Test("busy and failing servers are asked again, for listings and reads")
    func transient() throws {
        let stub = try StubS3(["a": "123"])
        let busy = StubS3.error(503, "SlowDown")
        stub.behaviour.withLock {
            $0.faults = [busy, StubS3.error(500, "InternalError"), busy.delivered(.closeAtOnce)]
        }
        let (tree, origin, resolution) = try tree("s3://bucket", stub)
        stub.behaviour.withLock { $0.faults = [busy] }
        #expect(try origin.source(tree.sources[0], of: resolution).collect(ByteRange(0, 3)) == Array("123".utf8))
    }

    @Test("a redirect to a host of another service gets no signed request")
    func redirected() throws {
        let stub = try StubS3(["a": "123"])
        let other = try ScriptedServer { _ in ScriptedServer.Answer(200) }
        let (_, origin, _) = try tree("s3://bucket", stub)
        for location in [other.url + "/bucket/?list-type=2", stub.url + "/bucket/?list-type=2"] {
            let faults = [StubS3.error(307, "TemporaryRedirect", headers: [("Location", location)])]
            stub.behaviour.withLock { $0.faults = faults }
            let count = stub.requests.count
            let error = refusal { () throws(MCFSError) in
                _ = try origin.resolve(deadline: Deadline(after: .seconds(20)))
            }
            // What comes back from the right host is no valid listing of ours, but it was asked.
            #expect(error != nil)
            #expect(stub.requests.count - count == (location.hasPrefix(stub.url) ? 2 : 1))
        }
        #expect(other.requests.isEmpty)
    }

    @Test("a server that stays busy is a transient error that says so")
    func alwaysBusy() throws {
        let stub = try StubS3(["a": "123"])
        stub.behaviour.withLock { $0.faults = Array(repeating: StubS3.error(503, "SlowDown"), count: 20) }
        let origin = try origin("s3://bucket", stub)
        let error = refusal { () throws(MCFSError) in _ = try origin.resolve(deadline: Deadline(after: .seconds(20))) }
        #expect(error?.code == .originUnavailable && error?.isTransient == true)
        #expect(stub.requests.count == 6)
    }

    @Test("without a credential requests go unsigned; a refusal says where one was looked for")
    func anonymous() throws {
        let stub = try StubS3(["a": "123"])
        var environment = stub.environment
        environment.variables["AWS_ACCESS_KEY_ID"] = nil
        environment.variables["AWS_SECRET_ACCESS_KEY"] = nil
        let origin = try S3Origin("s3://bucket", environment: environment, http: http, logger: quietLogger)
        let error = refusal { () throws(MCFSError) in _ = try origin.resolve(deadline: Deadline(after: .seconds(20))) }
        #expect(error?.code == .unauthorized)
        #expect(error?.message.contains("AWS_ACCESS_KEY_ID") == true)
        stub.behaviour.withLock { $0.key = nil }
        _ = try origin.resolve(deadline: Deadline(after: .seconds(20)))
        #expect(stub.requests.last?["Authorization"] == nil)
    }

    @Test("a credential that the server does not know any more is read again, once")
    func renewed() throws {
        let stub = try StubS3(["a": "123"])
        var environment = stub.environment
        environment.variables["AWS_ACCESS_KEY_ID"] = nil
        environment.variables["AWS_SECRET_ACCESS_KEY"] = nil
        environment.variables["AWS_SHARED_CREDENTIALS_FILE"] = try scratch.write(
            "credentials", "[default]\naws_access_key_id = AKSTUB\naws_secret_access_key = stub-secret\n")
        let origin = try S3Origin("s3://bucket", environment: environment, http: http, logger: quietLogger)
        _ = try origin.resolve(deadline: Deadline(after: .seconds(20)))
        stub.behaviour.withLock { $0.key = AWSSigner.Key(accessKeyID: "AKNEW", secretAccessKey: "s2") }
        let error = refusal { () throws(MCFSError) in _ = try origin.resolve(deadline: Deadline(after: .seconds(20))) }
        #expect(error?.code == .unauthorized)
        #expect(error?.message.contains("stub-secret") == false)
        try scratch.write("credentials", "[default]\naws_access_key_id = AKNEW\naws_secret_access_key = s2\n")
        let count = stub.requests.count
        _ = try origin.resolve(deadline: Deadline(after: .seconds(20)))
        #expect(stub.requests.count <= count + 2)
    }

    @Test("a wrong secret is named without being shown")
    func wrongSecret() throws {
        let stub = try StubS3(["a": "1"])
        var environment = stub.environment
        environment.variables["AWS_SECRET_ACCESS_KEY"] = "wrong-secret"
        let origin = try S3Origin("s3://bucket", environment: environment, http: http, logger: quietLogger)
        let error = refusal { () throws(MCFSError) in _ = try origin.resolve(deadline: Deadline(after: .seconds(20))) }
        #expect(error?.code == .unauthorized)
        #expect(error?.message.contains("secret key") == true)
        #expect(error?.message.contains("wrong-secret") == false)
    }

    @Test(
        "answers that are no listing are errors",
        arguments: [
            "", "<html><body>hello</body></html>", "<ListBucketResult><Contents><Key>a</Key>",
            "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
            "<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
            "<!DOCTYPE x [<!ENTITY a \"b\">]><ListBucketResult/>",
        ])
    func hostile(body: String) throws {
        let stub = try StubS3(["a": "1"])
        stub.behaviour.withLock { $0.faults = [ScriptedServer.Answer(200, text: body)] }
        let origin = try origin("s3://bucket", stub)
        #expect(
            refusal { () throws(MCFSError) in _ = try origin.resolve(deadline: Deadline(after: .seconds(20))) }?.code
                == .corrupt)
    }

    @Test("an answer of 100 MB is given up early")
    func endless() throws {
        let stub = try StubS3(["a": "1"])
        stub.behaviour.withLock {
            $0.faults = [ScriptedServer.Answer(200, body: [UInt8](repeating: UInt8(ascii: " "), count: 100_000_000))]
        }
        let origin = try origin("s3://bucket", stub)
        #expect(
            refusal { () throws(MCFSError) in _ = try origin.resolve(deadline: Deadline(after: .seconds(20))) }?.code
                == .corrupt)
    }

    @Test("descriptors that are none of ours are refused")
    func descriptors() throws {
        let stub = try StubS3(["a": "1"])
        let (tree, origin, resolution) = try tree("s3://bucket", stub)
        for (name, value) in [("kind", "x"), ("size", "-1"), ("size", "18446744073709551616"), ("endpoint", "ftp://x")]
        {
            var descriptor = tree.sources[0]
            descriptor.properties[name] = value
            #expect(refusal { () throws(MCFSError) in _ = try origin.source(descriptor, of: resolution) } != nil)
        }
    }
}
