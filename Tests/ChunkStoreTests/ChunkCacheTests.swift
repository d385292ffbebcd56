import ChunkStore
import Foundation
import MCFSCore
import MCFSTestSupport
import Testing

private let digits = Array("0123456789abcdefghij".utf8)

@Suite(.timeLimit(.minutes(5)))
struct ChunkCacheTests {
    @Test("a read fetches the chunks it needs and no others; the second read is local")
    func missThenHit() throws {
        let fixture = CacheFixture()
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let source = MemorySource(digits)
        let file = cache.open(CacheFixture.placed(source))
        #expect(try file.bytes(5, 7) == Array("56".utf8))
        #expect(source.reads == [ByteRange(4, 8)])
        #expect(cache.localBytes(of: file.content.id, size: 20) == 4)
        #expect(try file.bytes(4, 8) == Array("4567".utf8))
        #expect(source.reads.count { $0.overlaps(ByteRange(4, 8)) } == 1)
    }

    @Test("every range of a file reads right, cold and warm", arguments: [1, 3, 4, 20, 32] as [UInt64])
    func everyRange(chunkSize: UInt64) throws {
        for low in 0..<UInt64(digits.count) {
            let fixture = CacheFixture(chunkSize: chunkSize)
            let cache = try fixture.open()
            defer { fixture.close(cache) }
            let file = cache.open(CacheFixture.digested(MemorySource(digits)))
            for high in (low + 1)...UInt64(digits.count) {
                #expect(try file.bytes(low, high) == Array(digits[Int(low)..<Int(high)]))
            }
        }
    }

    @Test("many readers of a missing chunk make one request")
    func singleFlight() throws {
        let fixture = CacheFixture(chunkSize: 32)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let source = MemorySource(digits)
        source.close()
        let file = cache.open(CacheFixture.digested(source))
        let waiters = try (0..<16).map { _ in try file.start(0, 20) }
        source.open()
        for waiter in waiters { #expect(try waiter.value.get() == digits) }
        #expect(source.reads.count == 1)
    }

    @Test("neighbouring missing chunks are one request")
    func neighbours() throws {
        let fixture = CacheFixture()
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let source = MemorySource(digits)
        let file = cache.open(CacheFixture.placed(source))
        #expect(try file.bytes(1, 19) == Array(digits[1..<19]))
        #expect(source.reads == [ByteRange(0, 20)])
    }

    @Test("a range fetched from a layer fills every small file that it covers")
    func layer() throws {
        // Nine files of two bytes, each behind two bytes of header.
        let bytes = (0..<9).flatMap { [UInt8]("h\($0)".utf8) + [UInt8]("\($0)\($0)".utf8) }
        let source = MemorySource(bytes)
        let contents = (0..<9).map { index in
            Content(id: BlobID(origin: "layer", "\(index)"), size: 2, source: 0, offset: UInt64(index * 4 + 2))
        }
        let layout = TestLayout(contents)
        let fixture = CacheFixture()
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        for (index, content) in contents.enumerated().shuffled() {
            let file = cache.open(
                FileContent(id: content.id, size: 2, source: source, offset: content.offset, layout: layout))
            #expect(try file.all == Array("\(index)\(index)".utf8))
        }
        #expect(source.reads.count <= 2)
    }

    @Test("a source without ranges is read once, whatever is asked first")
    func stream() throws {
        let source = MemorySource(digits, hasRandomAccess: false)
        let contents = [
            Content(id: BlobID(origin: "s", "a"), size: 6, source: 0, offset: 1),
            Content(id: BlobID(origin: "s", "b"), size: 9, source: 0, offset: 8),
        ]
        let layout = TestLayout(contents)
        let fixture = CacheFixture()
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        for content in contents.reversed() {
            let file = cache.open(
                FileContent(id: content.id, size: content.size, source: source, offset: content.offset, layout: layout))
            #expect(try file.all == Array(digits[Int(content.offset)..<Int(content.offset + content.size)]))
        }
        #expect(source.reads == [ByteRange(0, 17)])
    }

    @Test("what was read is local after a restart, also when the daemon was killed", arguments: [true, false])
    func restart(isClean: Bool) throws {
        let fixture = CacheFixture()
        let content = CacheFixture.placed(MemorySource(digits))
        let whole = CacheFixture.digested(MemorySource(Array("whole file".utf8)))
        let first = try fixture.open()
        #expect(try first.open(content).bytes(4, 12) == Array(digits[4..<12]))
        #expect(try first.open(whole).all == Array("whole file".utf8))
        // A killed daemon writes nothing more: the files are what they are now.
        if isClean { first.shutDown() }
        let second = try fixture.open()
        defer {
            fixture.close(second)
            if !isClean { first.shutDown() }
        }
        let gone = MemorySource([])
        let again = second.open(FileContent(id: content.id, size: 20, source: gone, offset: 0))
        #expect(try again.bytes(4, 12) == Array(digits[4..<12]))
        #expect(
            try second.open(FileContent(id: whole.id, size: 10, source: gone, offset: 0)).all
                == Array("whole file".utf8))
        #expect(gone.reads.isEmpty)
        #expect(second.localBytes(of: content.id, size: 20) == 8)
        #expect(throws: MCFSError.self) { try again.bytes(0, 4) }
    }

    @Test("a complete file is byte for byte the content, under its identity")
    func completeFile() throws {
        let fixture = CacheFixture()
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let content = CacheFixture.digested(MemorySource(digits))
        #expect(try cache.open(content).all == digits)
        cache.waitUntilSynced()
        let shard = [content.id.bytes[0]].hex
        let path = fixture.directory.path + "/blobs/\(shard)/\(content.id)"
        #expect(FileManager.default.contents(atPath: path) == Data(digits))
    }

    @Test("a transient failure that the source did not mend fails the read alone")
    func failure() throws {
        let fixture = CacheFixture(readDeadline: .milliseconds(500))
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let source = MemorySource(digits)
        let file = cache.open(CacheFixture.placed(source))
        source.fail(.error(MCFSError(.unauthorized, "no"), after: 0))
        #expect(throws: MCFSError.self) { try file.bytes(0, 4) }
        #expect(try file.bytes(0, 4) == Array("0123".utf8))
        #expect(cache.statistics.originErrors == 1)
        #expect(!cache.problems.isEmpty)
    }

    @Test("chunks that came before a fetch broke off are kept")
    func partialFetch() throws {
        let fixture = CacheFixture()
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let source = MemorySource(digits)
        source.fail(.error(MCFSError(.notFound, "gone"), after: 9))
        let file = cache.open(CacheFixture.placed(source))
        #expect(throws: MCFSError.self) { try file.all }
        #expect(try file.bytes(0, 8) == Array("01234567".utf8))
        #expect(source.reads.count == 1)
    }

    @Test("a source that sends too little fails the read")
    func short() throws {
        let fixture = CacheFixture(readDeadline: .milliseconds(300))
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let source = MemorySource(digits)
        source.fail(.short(by: 1), .short(by: 1), .short(by: 1), .short(by: 1), .short(by: 1))
        let file = cache.open(CacheFixture.placed(source))
        #expect(throws: MCFSError.self) { try file.bytes(0, 4) }
    }

    @Test("a read whose bytes do not come ends at its deadline, and the cache can be closed")
    func deadline() throws {
        let fixture = CacheFixture(readDeadline: .milliseconds(200))
        let cache = try fixture.open()
        let source = MemorySource(digits)
        source.close()
        let result = try cache.open(CacheFixture.placed(source)).start(0, 4).value
        #expect(throws: MCFSError.self) { try result.get() }
        fixture.close(cache)
        source.open()
    }

    @Test("small content with a wrong digest is fetched once more and then right")
    func flipOnce() throws {
        let fixture = CacheFixture(chunkSize: 64)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let source = MemorySource(digits)
        source.fail(.flip)
        #expect(try cache.open(CacheFixture.digested(source)).all == digits)
        #expect(source.reads.count == 2)
        #expect(cache.statistics.corruptions == 1)
    }

    @Test("content that stays wrong is an error, and nothing of it is kept")
    func flipAlways() throws {
        let fixture = CacheFixture(chunkSize: 64)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let source = MemorySource(digits)
        source.fail(.flip, .flip)
        let content = CacheFixture.digested(source)
        let file = cache.open(content)
        #expect(throws: MCFSError.self) { try file.all }
        #expect(cache.localBytes(of: content.id, size: 20) == 0)
        #expect(!cache.problems.isEmpty)
    }

    @Test("whoever was served bytes of a file whose digest turns out wrong gets an error at its end")
    func wrongAfterServing() throws {
        let fixture = CacheFixture()
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let source = MemorySource(digits)
        let content = CacheFixture.digested(source)
        let discarded = Guarded<[BlobID]>([])
        cache.onDiscard { id in discarded.update { $0.append(id) } }
        source.fail(.flip)
        let file = cache.open(content)
        #expect(try file.bytes(0, 4) != Array("0123".utf8))
        #expect(throws: MCFSError.self) { try file.bytes(4, 20) }
        // Still open: it may have wrong bytes in its hands.
        #expect(throws: MCFSError.self) { try file.bytes(0, 4) }
        #expect(discarded.wait(until: Deadline(after: .seconds(5))) { $0.isEmpty ? nil : $0 } == [content.id])
        #expect(try cache.open(content).all == digits)
    }

    @Test("git identities are checked too")
    func git() throws {
        let fixture = CacheFixture()
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        // `printf 'hello\n' | git hash-object --stdin`
        let id = try #require(BlobID("git-ce013625030ba8dba906f756967f9e9ca394464a"))
        let good = FileContent(id: id, size: 6, source: MemorySource(Array("hello\n".utf8)), offset: 0)
        #expect(try cache.open(good).all == Array("hello\n".utf8))
        _ = cache.evict([good.key])
        let bad = FileContent(id: id, size: 6, source: MemorySource(Array("Hello\n".utf8)), offset: 0)
        #expect(throws: MCFSError.self) { try cache.open(bad).all }
    }
}
