internal import MCFSCore
internal import Testing

@testable internal import OCI

@Suite("a compressed layer as its tar", .timeLimit(.minutes(5)))
struct DecompressedSourceTests {
    private static let tar = TarWriter.tar { $0.add("a", LayerFixtures.pattern(900_000)) }

    private func read(_ source: DecompressedSource, _ range: ByteRange) throws(MCFSError) -> [UInt8] {
        try source.bytes(range, deadline: LayerFixtures.deadline)
    }

    @Test("any range is delivered exactly", arguments: ["gzip", "gzip members", "zstd", "zstd frames"])
    func ranges(coding: String) throws {
        let layer = try LayerIndexerTests.coded(Self.tar, coding)
        let base = LayerFixtures.Source(layer)
        let kind: LayerCoding = coding.hasPrefix("gzip") ? .gzip : .zstd
        let source = DecompressedSource(base, size: base.size, coding: kind, digest: LayerFixtures.digest(layer))
        #expect(!source.hasRandomAccess)
        let size = UInt64(Self.tar.count)
        for range in [
            ByteRange(0, 1), ByteRange(0, size), ByteRange(511, 700_001), ByteRange(size - 1, size), ByteRange(5, 5),
        ] {
            #expect(try read(source, range) == Array(Self.tar[Int(range.lowerBound)..<Int(range.upperBound)]))
        }
    }

    @Test("a range beyond the end is corrupt, and so are wrong bytes that are read to their end")
    func failures() throws {
        let layer = try LayerIndexerTests.coded(Self.tar, "gzip")
        let base = LayerFixtures.Source(layer)
        let size = UInt64(Self.tar.count)
        let right = DecompressedSource(base, size: base.size, coding: .gzip, digest: LayerFixtures.digest(layer))
        #expect(throws: MCFSError.self) { try read(right, ByteRange(size - 1, size + 1)) }
        let wrong = DecompressedSource(base, size: base.size, coding: .gzip, digest: Digest.sha256(of: [1]))
        do {
            _ = try read(wrong, ByteRange(0, size))
            Issue.record("it was accepted")
        } catch {
            #expect(error.code == .corrupt)
        }
        let cut = LayerFixtures.Source(layer, failsAt: 500_000)
        let failing = DecompressedSource(cut, size: cut.size, coding: .gzip, digest: LayerFixtures.digest(layer))
        #expect(try read(failing, ByteRange(0, 1000)) == Array(Self.tar.prefix(1000)))
        do {
            _ = try read(failing, ByteRange(0, size))
            Issue.record("it was accepted")
        } catch {
            #expect(error.code == .originUnavailable)
        }
    }

    @Test("a sink that has enough ends the read with its error")
    func sinkFails() throws {
        let layer = try LayerIndexerTests.coded(Self.tar, "zstd")
        let base = LayerFixtures.Source(layer)
        let source = DecompressedSource(base, size: base.size, coding: .zstd, digest: LayerFixtures.digest(layer))
        do {
            try source.read(ByteRange(0, 900_000), deadline: LayerFixtures.deadline, into: CollectedBytes(count: 1000))
            Issue.record("it was accepted")
        } catch {
            #expect(error.message.contains("more bytes came"))
        }
    }
}
