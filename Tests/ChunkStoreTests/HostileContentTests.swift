import ChunkStore
import Foundation
import Glibc
import MCFSCore
import MCFSTestSupport
import Testing

private let digits = Array("0123456789abcdefghij".utf8)

/// Origins that lie about sizes and bytes, and settings at their limits.
@Suite(.timeLimit(.minutes(5)))
struct HostileContentTests {
    @Test("who lists a known digest with another size gets an error, and takes nothing from those who have it")
    func otherSize() throws {
        let fixture = CacheFixture(readDeadline: .milliseconds(300))
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let content = CacheFixture.digested(MemorySource(digits))
        cache.setPinned([content.key])
        let reader = cache.open(content)
        _ = try reader.all
        cache.waitUntilSynced()
        for size in [19, 21, 1] as [UInt64] {
            let lie = FileContent(
                id: content.id, size: size, source: MemorySource(Array(repeating: 7, count: 30)), offset: 0)
            #expect(throws: MCFSError.self) { try cache.open(lie).bytes(0, 1) }
            #expect(cache.localBytes(of: lie.id, size: size) == 0)
            #expect(throws: MCFSError.self) {
                try cache.prefetch([lie], progress: Progress(), isCancelled: { false })
            }
            for _ in 0..<2 { _ = cache.evict([lie.key]) }
            let shard = [content.id.bytes[0]].hex
            #expect(
                FileManager.default.fileExists(
                    atPath: "\(fixture.directory.path)/blobs/\(shard)/\(content.id)"))
        }
        let gone = FileContent(id: content.id, size: 20, source: MemorySource([]), offset: 0)
        #expect(try cache.open(gone).all == digits)
        #expect(try reader.all == digits)
        #expect(cache.usage.bytesPinned == 20)
    }

    @Test("a lie about a size that came first does not keep the content from being fetched")
    func otherSizeFirst() throws {
        let fixture = CacheFixture()
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let content = CacheFixture.digested(MemorySource(digits))
        let lie = FileContent(
            id: content.id, size: 25, source: MemorySource(Array(repeating: 7, count: 25)), offset: 0)
        let liar = cache.open(lie)
        #expect(try liar.bytes(0, 4) == [7, 7, 7, 7])
        #expect(try cache.open(content).all == digits)
        #expect(throws: MCFSError.self) { try liar.all }
        #expect(try cache.open(content).all == digits)
    }

    @Test("bytes that went out unchecked and are fetched anew leave no pages behind", arguments: [true, false])
    func lostUnchecked(isEvicted: Bool) throws {
        let fixture = CacheFixture()
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let dropped = Guarded<[BlobID]>([])
        cache.onDiscard { id in dropped.update { $0.append(id) } }
        let source = MemorySource(digits)
        source.fail(.flip)
        let content = CacheFixture.digested(source)
        #expect(try cache.open(content).bytes(0, 4) != Array("0123".utf8))
        #expect(!cache.hasUncertainPages(of: content.id, size: content.size))
        if isEvicted {
            #expect(cache.evict([content.key]) == 4)
            #expect(cache.hasUncertainPages(of: content.id, size: content.size))
            #expect(try cache.open(content).all == digits)
            // Nobody knows what the pages of before are.
            #expect(cache.hasUncertainPages(of: content.id, size: content.size))
        } else {
            // Closed since; now the rest comes, which nobody reads.
            try? cache.prefetch([content], progress: Progress(), isCancelled: { false })
            #expect(dropped.wait(until: Deadline(after: .seconds(20))) { $0.isEmpty ? nil : $0 } == [content.id])
            #expect(try cache.open(content).all == digits)
        }
    }

    @Test("a content that one origin has wrong is read from another, while who read the wrong one has it open")
    func anotherOrigin() throws {
        let fixture = CacheFixture(chunkSize: 64)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let bad = MemorySource(digits)
        bad.fail(.flip, .flip, .flip, .flip)
        let content = CacheFixture.digested(bad)
        let victim = cache.open(content)
        for _ in 0..<3 { #expect(throws: MCFSError.self) { try victim.all } }
        // Not over and over.
        #expect(bad.reads.count == 2)
        let good = FileContent(id: content.id, size: content.size, source: MemorySource(digits), offset: 0)
        #expect(try cache.open(good).all == digits)
        #expect(try victim.all == digits)
    }

    @Test("bytes that were checked after they went out leave their pages")
    func checkedLater() throws {
        let fixture = CacheFixture()
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let content = CacheFixture.digested(MemorySource(digits))
        _ = try cache.open(content).bytes(0, 4)
        _ = try cache.open(content).all
        #expect(cache.evict([content.key]) == 20)
        #expect(!cache.hasUncertainPages(of: content.id, size: content.size))
    }

    @Test("bytes that went out from memory alone are not taken for checked")
    func unkeptPages() throws {
        let fixture = CacheFixture(bytesMax: 0)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let content = CacheFixture.digested(MemorySource(digits))
        _ = try cache.open(content).bytes(0, 4)
        #expect(cache.hasUncertainPages(of: content.id, size: content.size))
    }

    @Test("a content of one chunk is checked before it is served, also where it cannot be kept")
    func unkept() throws {
        let fixture = CacheFixture(chunkSize: 64, bytesMax: 0)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let source = MemorySource(digits)
        source.fail(.flip, .flip)
        #expect(throws: MCFSError.self) { try cache.open(CacheFixture.digested(source)).all }
        let right = MemorySource(digits + [1])
        #expect(try cache.open(CacheFixture.digested(right)).all == digits + [1])
        #expect(cache.usage.bytesUsed == 0)
    }

    @Test(
        "a size that nothing has is an error, and costs nothing", arguments: [1 << 62, .max, 1 << 46 + 1] as [UInt64])
    func impossibleSize(size: UInt64) throws {
        let fixture = CacheFixture(chunkSize: 4096)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let content = FileContent(id: BlobID(origin: "huge"), size: size, source: MemorySource(digits), offset: 0)
        #expect(throws: MCFSError.self) { try cache.open(content).bytes(0, 4) }
        #expect(throws: MCFSError.self) { try cache.open(content).bytes(size - 4, size) }
        #expect(throws: MCFSError.self) {
            try cache.prefetch([content, content, content], progress: Progress(), isCancelled: { false })
        }
    }

    @Test(
        "of a stream that is said to be as long as can be, not all chunks are claimed at once", .timeLimit(.minutes(5)))
    func longStream() throws {
        let fixture = CacheFixture(chunkSize: 4096, readDeadline: .seconds(2))
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let source = MemorySource(digits, hasRandomAccess: false)
        source.fail(forever: MCFSError(.originUnavailable, "gone"))
        let content = FileContent(id: BlobID(origin: "stream"), size: 1 << 46, source: source, offset: 0)
        let file = cache.open(content)
        for offset in [0, 1 << 45, (1 << 46) - 4] as [UInt64] {
            #expect(throws: MCFSError.self) { try file.bytes(offset, offset + 4) }
        }
    }

    @Test("a few chunks of a sparse content of 8 TiB cost what is local")
    func sparse() throws {
        let fixture = CacheFixture(chunkSize: 4096)
        let size: UInt64 = 1 << 43
        let content = FileContent(id: BlobID(origin: "sparse"), size: size, source: PatternSource(), offset: 0)
        let cache = try fixture.open()
        for offset in [0, 1 << 40, size - 4096] as [UInt64] {
            #expect(try cache.open(content).bytes(offset, offset + 4) == PatternSource.bytes(offset, 4))
        }
        #expect(cache.localBytes(of: content.id, size: size) == 3 * 4096)
        #expect(cache.usage.bytesUsed < 1 << 20)
        cache.shutDown()
        let next = try fixture.open()
        defer { next.shutDown() }
        let gone = FileContent(id: content.id, size: size, source: MemorySource([]), offset: 0)
        #expect(try next.open(gone).bytes(1 << 40, 1 << 40 + 4) == PatternSource.bytes(1 << 40, 4))
    }

    @Test(
        "any budget of memory makes progress",
        arguments: [(1, 16, 8), (16, 16, 1), (40, 16, 16), (8, 64, 4)] as [(UInt64, UInt64, Int)])
    func smallBudget(budget: UInt64, chunkSize: UInt64, threads: Int) throws {
        var fixture = CacheFixture(chunkSize: chunkSize)
        fixture.configuration.inFlightBytesMax = budget
        fixture.configuration.fetchThreads = threads
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0) }
        let files = (0..<4).map { cache.open(CacheFixture.placed(MemorySource(bytes), "\($0)")) }
        let waiters = try files.flatMap { file in
            try stride(from: UInt64(0), to: 1000, by: 50).map { try file.start($0, $0 + 50) }
        }
        for (index, waiter) in waiters.enumerated() {
            let low = index % 20 * 50
            #expect(try waiter.value.get() == Array(bytes[low..<low + 50]))
        }
    }

    @Test("a chunk that did not come in time is refused at once to who asks again")
    func refused() throws {
        let fixture = CacheFixture(readDeadline: .milliseconds(1100))
        let cache = try fixture.open()
        let source = MemorySource(digits)
        source.close()
        let file = cache.open(CacheFixture.placed(source))
        let started = ContinuousClock.now
        #expect(throws: MCFSError.self) { try file.bytes(0, 4) }
        // The kernel asks again for a part of what it was refused, and for each who waits for the same page.
        for _ in 0..<20 { #expect(throws: MCFSError.self) { try file.bytes(0, 1) } }
        #expect(ContinuousClock.now - started < .milliseconds(2000))
        #expect(source.reads.count == 1)
        // Who asks later waits, and gets the bytes.
        usleep(1_000_000)
        let other = try file.start(0, 1)
        source.open()
        #expect(try other.value.get() == Array("0".utf8))
        fixture.close(cache)
    }

    @Test("members that pass by take no more room than there is")
    func ingestBound() throws {
        let fixture = CacheFixture(chunkSize: 4096, bytesMax: 2 << 20)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        let bytes = [UInt8](repeating: 5, count: 64 << 10)
        let writer = try cache.beginContent(id: nil, size: 4 << 20)
        for _ in 0..<64 {
            try bytes.withUnsafeBytes { try writer.write($0) }
            let files = FileManager.default.enumerator(atPath: fixture.directory.path)
            var sum = 0
            while files?.nextObject() != nil { sum += files?.fileAttributes?[.size] as? Int ?? 0 }
            #expect(sum < 2 << 20)
        }
        let id = try writer.commit()
        #expect(id == BlobID(Digest.sha256(of: [UInt8](repeating: 5, count: 4 << 20))))
        #expect(cache.localBytes(of: id, size: 4 << 20) == 0)
    }
}

/// A source of any length whose bytes follow from where they are.
private final class PatternSource: ByteSource {
    let name = "pattern"
    let hasRandomAccess = true

    static func bytes(_ offset: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: (offset + UInt64($0)) / 4096 &* 31 &+ UInt64($0)) }
    }

    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        let bytes = Self.bytes(range.lowerBound, Int(range.count))
        try bytes.withUnsafeBytes { bytes in Result { () throws(MCFSError) in try sink.write(bytes) } }.get()
    }
}
