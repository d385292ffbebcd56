import ChunkStore
import Foundation
import Glibc
import MCFSCore
import MCFSTestSupport
import Testing

@Suite(.timeLimit(.minutes(5)))
struct SpaceTests {
    private func page(_ byte: UInt8, pages: Int = 1) -> MemorySource {
        MemorySource([UInt8](repeating: byte, count: 4096 * pages), pieceBytes: 4096)
    }

    private func diskBytes(_ path: String) -> Int {
        let files = FileManager.default.enumerator(atPath: path)?.allObjects as? [String] ?? []
        return files.reduce(0) { sum, name in
            let attributes = try? FileManager.default.attributesOfItem(atPath: path + "/" + name)
            return sum
                + (attributes?[.type] as? FileAttributeType == .typeRegular ? (attributes?[.size] as? Int ?? 0) : 0)
        }
    }

    @Test("the bound is never passed; the least recently used content goes first")
    func bound() throws {
        let fixture = CacheFixture(chunkSize: 4096, bytesMax: 4 * 4096)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        for byte in UInt8(0)..<12 {
            let content = CacheFixture.digested(page(byte))
            #expect(try cache.open(content).all.allSatisfy { $0 == byte })
            #expect(cache.usage.bytesUsed <= 4 * 4096)
        }
        #expect(diskBytes(fixture.directory.path + "/blobs") <= 4 * 4096)
        let last = CacheFixture.digested(page(11))
        #expect(cache.localBytes(of: last.id, size: 4096) == 4096)
    }

    @Test("a start with a smaller bound makes room at once")
    func smallerBound() throws {
        var fixture = CacheFixture(chunkSize: 4096, bytesMax: 1 << 20)
        let first = try fixture.open()
        for byte in UInt8(0)..<12 { _ = try first.open(CacheFixture.digested(page(byte))).all }
        first.shutDown()
        fixture.configuration.bytesMax = 4 * 4096
        let next = try fixture.open()
        defer { fixture.close(next) }
        let deadline = Deadline(after: .seconds(20))
        while next.usage.bytesUsed == 0 || next.usage.bytesUsed > 4 * 4096, !deadline.hasPassed { sched_yield() }
        #expect(next.usage.bytesUsed <= 4 * 4096)
    }

    @Test("pinned content stays; where nothing may go, reads are answered without being kept")
    func pins() throws {
        let fixture = CacheFixture(chunkSize: 4096, bytesMax: 2 * 4096)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let pinned = [CacheFixture.digested(page(1)), CacheFixture.digested(page(2))]
        cache.setPinned(Set(pinned.map(\.key)))
        for content in pinned { _ = try cache.open(content).all }
        let source = page(3, pages: 3)
        let other = cache.open(CacheFixture.placed(source))
        #expect(try other.all == source.bytes)
        #expect(try other.bytes(4000, 4200) == Array(source.bytes[4000..<4200]))
        #expect(cache.statistics.unkept > 0)
        #expect(cache.localBytes(of: other.content.id, size: 3 * 4096) == 0)
        #expect(cache.usage.bytesPinned == 2 * 4096)
        for content in pinned { #expect(cache.localBytes(of: content.id, size: 4096) == 4096) }
    }

    @Test("a prefetch of what cannot be kept says why: the disk", arguments: [4096, 3 * 4096])
    func fullDisk(size: Int) throws {
        let fixture = CacheFixture(chunkSize: 4096, readDeadline: .seconds(50))
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        // No file can be made where something that is no folder has the name.
        for name in ["tmp", "partial"] {
            rmdir(fixture.directory.path + "/" + name)
            #expect(symlink("/dev/full", fixture.directory.path + "/" + name) == 0)
        }
        let content = CacheFixture.placed(page(1, pages: size / 4096))
        let error = #expect(throws: MCFSError.self) {
            try cache.prefetch([content], progress: Progress(), isCancelled: { false })
        }
        #expect(error?.code == .localIO)
        #expect(error?.message.contains(fixture.directory.path) == true)
        #expect(try cache.open(content).all == page(1, pages: size / 4096).bytes)
    }

    @Test("a prefetch of what cannot be kept says why: the bound is full of what is pinned")
    func fullBound() throws {
        let fixture = CacheFixture(chunkSize: 4096, bytesMax: 4 * 4096, readDeadline: .seconds(50))
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let pinned = [1, 2, 3, 4].map { CacheFixture.digested(page($0)) }
        cache.setPinned(Set(pinned.map(\.key)))
        try cache.prefetch(pinned, progress: Progress(), isCancelled: { false })
        let error = #expect(throws: MCFSError.self) {
            try cache.prefetch([CacheFixture.digested(page(5))], progress: Progress(), isCancelled: { false })
        }
        #expect(error?.code == .noSpace)
        #expect(error?.message.contains("unpin") == true)
    }

    @Test("a content larger than the bound is read through")
    func larger() throws {
        let fixture = CacheFixture(chunkSize: 4096, bytesMax: 4 * 4096)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let source = MemorySource((0..<20 * 4096).map { UInt8(truncatingIfNeeded: $0 / 4096) }, pieceBytes: 4096)
        let file = cache.open(CacheFixture.placed(source))
        for page in UInt64(0)..<20 {
            #expect(try file.bytes(page * 4096, page * 4096 + 4096).allSatisfy { $0 == UInt8(page) })
            #expect(cache.usage.bytesUsed <= 4 * 4096)
        }
    }

    @Test("evicting an open file costs its reader a fetch, never a byte")
    func evictOpen() throws {
        let fixture = CacheFixture(chunkSize: 4)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let source = MemorySource(Array("0123456789".utf8))
        let content = CacheFixture.placed(source)
        let file = cache.open(content)
        #expect(try file.bytes(0, 4) == Array("0123".utf8))
        #expect(cache.evict([content.key]) == 4)
        #expect(cache.localBytes(of: content.id, size: 10) == 0)
        #expect(try file.bytes(0, 10) == Array("0123456789".utf8))
        #expect(cache.evict([content.key]) == 10)
        #expect(cache.usage.bytesUsed == 0)
    }

    @Test("prefetch makes everything local in large requests, and resumes")
    func prefetch() throws {
        let fixture = CacheFixture(chunkSize: 4)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let source = MemorySource(Array("0123456789".utf8))
        let contents = [
            CacheFixture.placed(source), CacheFixture.digested(MemorySource(Array("abc".utf8))),
            FileContent(id: BlobID(origin: "empty"), size: 0, source: source, offset: 0),
        ]
        _ = try cache.open(contents[0]).bytes(0, 4)
        try cache.prefetch(contents, progress: Progress(), isCancelled: { false })
        #expect(source.reads == [ByteRange(0, 4), ByteRange(4, 10)])
        for content in contents { #expect(cache.localBytes(of: content.id, size: content.size) == content.size) }
    }

    @Test("prefetch brings small files before large ones, wherever they lie")
    func prefetchOrder() throws {
        var fixture = CacheFixture(chunkSize: 1 << 20)
        fixture.configuration.fetchThreads = 1
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let large: UInt64 = 3 << 20
        let source = MemorySource([UInt8](repeating: 7, count: Int(large) + 10), pieceBytes: 1 << 20)
        let contents = [(0, large), (large, 10)].map { offset, size in
            FileContent(id: BlobID(origin: "at", "\(offset)"), size: size, source: source, offset: offset)
        }
        try cache.prefetch(contents, progress: Progress(), isCancelled: { false })
        #expect(source.reads == [ByteRange(large, large + 10), ByteRange(0, large)])
    }

    @Test(
        "prefetch fetches small holes rather than make more requests, and large ones where they are a small part",
        arguments: [
            // Bytes of each of two pieces, of the hole between them, and the requests.
            (1000, 4096, 1), (1000, 4097, 2), (65536, 16384, 1), (65536, 16392, 2), (1_048_576, 131_072, 1),
            (1_048_576, 131_073, 2),
        ] as [(UInt64, UInt64, Int)])
    func prefetchHoles(piece: UInt64, hole: UInt64, requests: Int) throws {
        let fixture = CacheFixture(chunkSize: 1 << 20)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let source = MemorySource([UInt8](repeating: 7, count: Int(piece + hole + piece)), pieceBytes: 1 << 20)
        let contents = [0, piece + hole].map { offset in
            FileContent(id: BlobID(origin: "at", "\(offset)"), size: piece, source: source, offset: offset)
        }
        try cache.prefetch(contents, progress: Progress(), isCancelled: { false })
        #expect(source.reads.count == requests)
        for content in contents { #expect(cache.localBytes(of: content.id, size: piece) == piece) }
    }

    @Test("prefetch says what it could not get")
    func prefetchFails() throws {
        let fixture = CacheFixture(chunkSize: 4, readDeadline: .milliseconds(300))
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let source = MemorySource(Array("0123456789".utf8))
        source.fail(.error(MCFSError(.notFound, "gone"), after: 0))
        #expect(throws: MCFSError.self) {
            try cache.prefetch([CacheFixture.placed(source)], progress: Progress(), isCancelled: { false })
        }
        let smallFixture = CacheFixture(bytesMax: 4096)
        let small = try smallFixture.open()
        defer { smallFixture.close(small) }
        #expect(throws: MCFSError.self) {
            try small.prefetch([CacheFixture.placed(page(1, pages: 2))], progress: Progress(), isCancelled: { false })
        }
    }

    @Test("verify finds a damaged file, drops it, and its next read is right")
    func verify() throws {
        let fixture = CacheFixture(chunkSize: 4)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let content = CacheFixture.digested(MemorySource(Array("0123456789".utf8)))
        _ = try cache.open(content).all
        #expect(try cache.verify(progress: Progress()).findings.isEmpty)
        cache.waitUntilSynced()
        let path = fixture.directory.path + "/blobs/\([content.id.bytes[0]].hex)/\(content.id)"
        let handle = try #require(FileHandle(forWritingAtPath: path))
        try handle.write(contentsOf: Data("X".utf8))
        try handle.close()
        let result = try cache.verify(progress: Progress())
        #expect(result.findings.map(\.id) == [content.id])
        #expect(try cache.open(content).all == Array("0123456789".utf8))
    }

    @Test("content that passes by is kept under its digest, and served to readers that waited")
    func ingest() throws {
        let fixture = CacheFixture(chunkSize: 4)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let bytes = Array("0123456789".utf8)
        let writer = try cache.beginContent(id: nil, size: 10)
        try bytes.withUnsafeBytes { try writer.write($0) }
        let id = try writer.commit()
        #expect(id == BlobID(Digest.sha256(of: bytes)))
        let file = cache.open(FileContent(id: id, size: 10, source: MemorySource([]), offset: 0))
        #expect(try file.all == bytes)
        let wrong = try cache.beginContent(id: BlobID(Digest.sha256(of: Array("x".utf8))), size: 10)
        try bytes.withUnsafeBytes { try wrong.write($0) }
        #expect(throws: MCFSError.self) { try wrong.commit() }
        let short = try cache.beginContent(id: nil, size: 11)
        try bytes.withUnsafeBytes { try short.write($0) }
        #expect(throws: MCFSError.self) { try short.commit() }
    }

    @Test("after another boot only what had been synced is believed")
    func powerCut() throws {
        var fixture = CacheFixture(chunkSize: 4)
        fixture.configuration.syncInterval = .seconds(3600)
        let content = CacheFixture.digested(MemorySource(Array("0123456789".utf8)))
        let first = try fixture.open()
        _ = try first.open(content).all
        // Killed: `first` has not synced anything.
        fixture.configuration.mountToken = String(repeating: "0", count: 32)
        let second = try fixture.open()
        defer {
            fixture.close(second)
            first.shutDown()
        }
        second.waitUntilScanned(Deadline(after: .seconds(10)))
        #expect(second.localBytes(of: content.id, size: 10) == 0)
        #expect(try second.open(content).all == Array("0123456789".utf8))
    }
}
