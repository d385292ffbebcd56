@testable import ChunkStore
import Foundation
import MCFSCore
import MCFSTestSupport
import Testing

@Suite(.timeLimit(.minutes(5)))
struct EvictionRaceTests {
    @Test("contents that are opened while they are evicted are right, and what is counted is what is there")
    func openWhileEvicted() throws {
        var fixture = CacheFixture(chunkSize: 16, bytesMax: 12 * 4096)
        fixture.configuration.syncInterval = .milliseconds(1)
        let cache = try fixture.open()
        let contents = (0..<12).map { index -> FileContent in
            let source = MemorySource((0..<index * 5 + 1).map { UInt8(truncatingIfNeeded: $0 * 3 + index) })
            return index % 2 == 0 ? CacheFixture.digested(source) : CacheFixture.placed(source, "\(index)")
        }
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            var random = SeededGenerator(seed: UInt64(thread))
            for _ in 0..<400 {
                let index = Int.random(in: 0..<12, using: &random)
                let content = contents[index]
                if thread == 0, Bool.random(using: &random) {
                    _ = cache.evict([content.key])
                    continue
                }
                let expected = (0..<index * 5 + 1).map { UInt8(truncatingIfNeeded: $0 * 3 + index) }
                #expect((try? cache.open(content).all) == expected)
            }
        }
        cache.waitUntilSynced()
        for content in contents {
            let local = cache.localBytes(of: content.id, size: content.size)
            let gone = FileContent(id: content.id, size: content.size, source: MemorySource([]), offset: 0)
            if local == content.size { #expect((try? cache.open(gone).all)?.count == Int(content.size)) }
        }
        cache.shutDown()
        let again = try fixture.open()
        again.waitUntilScanned(Deadline(after: .seconds(10)))
        for content in contents {
            let local = cache.localBytes(of: content.id, size: content.size)
            #expect(again.localBytes(of: content.id, size: content.size) == local)
        }
        #expect(again.usage.bytesUsed == cache.usage.bytesUsed)
        again.shutDown()
    }

    @Test("the bound holds with what is unlinked and open, with maps, and at every instant")
    func bound() throws {
        let fixture = CacheFixture(chunkSize: 4096, bytesMax: 16 * 4096)
        let cache = try fixture.open()
        defer { fixture.close(cache) }
        var open: [CachedFile] = []
        for byte in UInt8(0)..<24 {
            let content = CacheFixture.digested(MemorySource([UInt8](repeating: byte, count: 4096), pieceBytes: 4096))
            let file = cache.open(content)
            #expect(try file.all == [UInt8](repeating: byte, count: 4096))
            if byte < 6 {
                // As the kernel keeps a file that it reads by itself.
                #expect(file.completeFile != nil)
                open.append(file)
                _ = cache.evict([content.key])
            }
            #expect(cache.space.taken <= 16 * 4096)
            #expect(cache.space.taken >= UInt64(open.count) * 4096)
        }
        open = []
        for byte in UInt8(30)..<50 {
            let content = CacheFixture.digested(MemorySource([UInt8](repeating: byte, count: 4096), pieceBytes: 4096))
            _ = try cache.open(content).all
        }
        #expect(cache.usage.bytesUsed > 12 * 4096)
    }
}
