import ControlAPI
import MCFSCore
import Testing

@Suite struct ControlAPITests {
    @Test(
        "sizes are read as people write them",
        arguments: [
            ("4096", 4096), ("1k", 1024), ("50GiB", 50 << 30), ("10G", 10 << 30), ("10GB", 10_000_000_000),
            ("1.5m", 1_572_864), ("2 TiB", 2 << 40), ("", nil), ("G", nil), ("1x", nil), ("-1", nil), ("1.", nil),
            ("99999999999999999999", nil), ("16777216T", nil),
        ] as [(String, UInt64?)])
    func sizes(text: String, bytes: UInt64?) { #expect(ByteSize.parse(text) == bytes) }

    @Test("sizes are written with few digits")
    func written() {
        #expect(ByteSize.text(0) == "0 B")
        #expect(ByteSize.text(1023) == "1023 B")
        #expect(ByteSize.text(1536) == "1.5 KiB")
        #expect(ByteSize.text(512 << 30) == "512 GiB")
    }

    @Test("a typed path becomes absolute without asking the file system")
    func paths() {
        #expect(UserPath.lexical("a/./b/../c", relativeTo: "/x") == "/x/a/c")
        #expect(UserPath.lexical("/../..//a/", relativeTo: "/x") == "/a")
        #expect(UserPath.lexical("..", relativeTo: "/x") == "/")
    }

    @Test("the keys of status that scripts rely on are there, sorted, null where there is nothing")
    func status() throws {
        let mount = MountStatus(
            mountpoint: "/m", state: .ready, upper: nil, upperBytes: nil,
            references: [.init(reference: "r", resolved: "r@1", entries: 1, bytesTotal: 2, bytesLocal: 3)],
            reads: .init(), origin: .init(), passthrough: false, problems: [])
        let status = Status(cache: CacheStatus(directory: "/c"), mounts: [mount], jobs: [], version: "1")
        let text = String(decoding: try JSON.line(status), as: UTF8.self)
        for key in [
            "\"cache\":{", "\"bytesMax\"", "\"bytesPinned\"", "\"bytesUsed\"", "\"directory\"", "\"mountpoint\"",
            "\"state\":\"ready\"", "\"readOnly\":true", "\"upper\":null", "\"resolved\"", "\"entries\"",
            "\"bytesTotal\"",
            "\"unverifiable\"",
            "\"bytesLocal\"", "\"view\":{", "\"gpu\":[]", "\"hiddenEntries\"", "\"hits\"", "\"misses\"", "\"errors\"",
            "\"requests\"", "\"retries\"", "\"passthrough\":false", "\"version\"",
        ] { #expect(text.contains(key), "\(key)") }
        let first = try #require(text.firstRange(of: "\"cache\""))
        let last = try #require(text.firstRange(of: "\"version\""))
        #expect(first.lowerBound < last.lowerBound)
    }

    @Test("what a daemon has not counted yet is null, and read as that") func uncounted() throws {
        let mount = MountStatus(
            mountpoint: "/m", state: .ready, upper: nil, upperBytes: nil,
            references: [.init(reference: "r", resolved: "r@1", entries: 1, bytesTotal: 2, bytesLocal: nil)],
            reads: .init(), origin: .init(), passthrough: false, problems: [])
        let cache = CacheStatus(directory: "/c", bytesUsed: nil, bytesPinned: nil)
        let line = try JSON.line(Status(cache: cache, mounts: [mount], jobs: [], version: "1"))
        let text = String(decoding: line, as: UTF8.self)
        for key in ["bytesUsed", "bytesPinned", "bytesLocal", "unverifiable"] {
            #expect(text.contains("\"\(key)\":null"))
        }
        let read = try JSON.decode(Status.self, line)
        #expect(read.cache.bytesUsed == nil && read.mounts[0].references[0].bytesLocal == nil)
    }

    @Test("an error goes over the socket and comes back the same", arguments: MCFSError.Code.allCases)
    func errors(code: MCFSError.Code) throws {
        let document = ErrorDocument(MCFSError(code, "why"))
        let back = try JSON.decode(ErrorDocument.self, try JSON.line(document))
        #expect(back.error.error.code == code)
        #expect(back.error.error.message == "why")
    }
}
