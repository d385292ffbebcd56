import ChunkStore
import MCFSCore
import MCFSTestSupport
import Testing

@Suite(.timeLimit(.minutes(5)))
struct CacheModelTests {
    @Test("random reads, evictions, faults and restarts never give a wrong byte", arguments: 0..<12 as Range<UInt64>)
    func randomOperations(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let sizes = (0..<6).map { _ in Int.random(in: 1...90, using: &random) }
        let layer = (0..<sizes.reduce(0, +) + 60).map { _ in UInt8.random(in: .min ... .max, using: &random) }
        let source = MemorySource(
            layer, hasRandomAccess: seed % 4 != 3, pieceBytes: Int.random(in: 1...16, using: &random))
        var contents: [Content] = []
        var offset = 0
        for (index, size) in sizes.enumerated() {
            offset += Int.random(in: 0...9, using: &random)
            let bytes = layer[offset..<offset + size]
            let id = index % 2 == 0 ? BlobID(Digest.sha256(of: bytes)) : BlobID(origin: "model", "\(seed)", "\(index)")
            contents.append(Content(id: try #require(id), size: UInt64(size), source: 0, offset: UInt64(offset)))
            offset += size
        }
        let layout = TestLayout(contents)
        var fixture = CacheFixture(
            chunkSize: UInt64.random(in: 1...32, using: &random), bytesMax: seed % 3 == 0 ? 3 * 4096 : 1 << 20,
            readDeadline: .seconds(5))
        fixture.configuration.fetchThreads = 3
        var cache = try fixture.open()
        for step in 0..<300 {
            let content = try #require(contents.randomElement(using: &random))
            switch Int.random(in: 0..<20, using: &random) {
            case 0: _ = cache.evict([ContentKey(content.id, size: content.size)])
            case 1:
                cache.shutDown()
                cache = try fixture.open()
            case 2: source.fail(.error(MCFSError(.originUnavailable, "reset", isTransient: true), after: step % 20))
            case 3: _ = cache.collect(downTo: 4096)
            default:
                let file = cache.open(
                    FileContent(
                        id: content.id, size: content.size, source: source, offset: content.offset, layout: layout))
                let low = UInt64.random(in: 0..<content.size, using: &random)
                let high = UInt64.random(in: low + 1...content.size, using: &random)
                let expected = layer[Int(content.offset + low)..<Int(content.offset + high)]
                #expect(try patiently { try file.bytes(low, high) } == Array(expected), "seed \(seed), step \(step)")
            }
        }
        fixture.close(cache)
    }

    /// A source that fails is asked again by whoever wraps it; here, by the reader.
    private func patiently<Value>(_ read: () throws -> Value) throws -> Value {
        for _ in 0..<20 {
            do { return try read() } catch let error as MCFSError where error.isTransient { continue }
        }
        return try read()
    }
}
