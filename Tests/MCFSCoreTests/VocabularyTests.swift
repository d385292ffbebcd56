import MCFSCore
import MCFSTestSupport
import Testing

@Suite struct VocabularyTests {
    @Test("a grid's chunks cover its bytes once, without a gap", arguments: [1, 3, 4, 7, 64] as [UInt64])
    func grid(chunkSize: UInt64) {
        for size in UInt64(0)...20 {
            let grid = ChunkGrid(size: size, chunkSize: chunkSize)
            let ranges = (0..<grid.chunkCount).map(grid.range(of:))
            #expect(ranges.reduce(0) { $0 + $1.count } == size)
            #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
            for low in 0..<size {
                for high in (low + 1)...size {
                    let range = ByteRange(low, high)
                    let overlapping = (0..<grid.chunkCount).filter { grid.range(of: $0).overlaps(range) }
                    let within = (0..<grid.chunkCount).filter { range.contains(grid.range(of: $0)) }
                    #expect(Array(grid.chunks(overlapping: range)) == overlapping)
                    #expect(Array(grid.chunks(within: range)) == within)
                }
            }
        }
    }

    @Test("a digest is read back as it is written, and nothing else is one")
    func digests() throws {
        let digest = Digest.sha256(of: Array("abc".utf8))
        #expect(digest.description == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(Digest(digest.description) == digest)
        for text in [
            "", "sha256", "sha256:", "sha256:ba78", "md5:900150983cd24fb0d6963f7d28e17f72",
            "sha256:" + digest.hex.uppercased(),
        ] {
            #expect(Digest(text) == nil, "\(text)")
        }
    }

    @Test("an identity is read back as it is written")
    func identities() throws {
        for id in [
            BlobID(Digest.sha256(of: [1])), BlobID("git-ce013625030ba8dba906f756967f9e9ca394464a"),
            BlobID(origin: "a", "b"),
        ] {
            let id = try #require(id)
            #expect(BlobID(id.description) == id)
        }
        #expect(BlobID(origin: "ab", "c") != BlobID(origin: "a", "bc"))
        #expect(BlobID("sha256-00") == nil)
        #expect(BlobID("origin") == nil)
    }

    @Test(
        "a path keeps what leads down and refuses what leads out",
        arguments: [
            ("a/b", "a/b"), ("/a//b/", "a/b"), ("./a/./b", "a/b"), ("", ""), ("...", "..."), ("a/../b", nil),
            ("..", nil),
            ("a\0b", nil),
        ] as [(String, String?)])
    func paths(text: String, expected: String?) {
        #expect((try? TreePath(text))?.description == expected)
    }

    @Test("a name longer than a directory can hold is refused")
    func longName() {
        #expect((try? TreePath(String(repeating: "x", count: 255))) != nil)
        #expect((try? TreePath(String(repeating: "x", count: 256))) == nil)
    }

    @Test("a bitmap is a set, in memory and as bytes")
    func bitmap() throws {
        var random = SeededGenerator(seed: 7)
        for count in [1, 7, 8, 63, 64, 65, 200, 100_000] {
            var bitmap = Bitmap(count: count)
            var set: Set<Int> = []
            for _ in 0..<300 {
                let index = Int.random(in: 0..<count, using: &random)
                if Bool.random(using: &random) {
                    #expect(bitmap.insert(index) == set.insert(index).inserted)
                } else {
                    bitmap.remove(index)
                    set.remove(index)
                }
                #expect(bitmap.population == set.count)
                let isSet = bitmap.byte(holding: index) & 1 << UInt8(index & 7) != 0
                #expect(isSet == set.contains(index))
            }
            #expect((0..<count).allSatisfy { bitmap[$0] == set.contains($0) })
            var read = Bitmap(count: count)
            bitmap.forEachRun { offset, bytes in read.insert(bytes: bytes, at: offset) }
            #expect(read.population == set.count)
            #expect((0..<count).allSatisfy { read[$0] == set.contains($0) })
        }
    }

    @Test("a bitmap of any count costs by what is in it")
    func sparseBitmap() {
        var bitmap = Bitmap(count: 1 << 46)
        bitmap.insert(0)
        bitmap.insert(1 << 45)
        bitmap.insert(1 << 46 - 1)
        var bytes = 0
        bitmap.forEachRun { _, run in bytes += run.count }
        #expect(bytes == 3 * Bitmap.pageBytes)
        #expect(bitmap[1 << 45] && !bitmap[5] && bitmap.population == 3)
    }

    @Test("a wait ends with the value it waited for, or at its deadline", .timeLimit(.minutes(5)))
    func guarded() throws {
        let value = Guarded(0)
        try startThread("test") { value.update { $0 = 5 } }
        #expect(value.wait { $0 == 5 ? "five" : nil } == "five")
        #expect(value.wait(until: Deadline(after: .milliseconds(10))) { $0 == 6 ? true : nil } == nil)
    }

    @Test("no bytes have one digest of each kind; any other of none is a lie")
    func identitiesOfNothing() throws {
        let nothing = [
            "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "git-e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
        ]
        for text in nothing { #expect(try #require(BlobID(text)).fits(size: 0)) }
        #expect(BlobID(origin: "place").fits(size: 0))
        for kind in [BlobID.Kind.sha256, .git] {
            let some = try #require(BlobID(kind, [UInt8](repeating: 7, count: kind == .git ? 20 : 32)))
            #expect(!some.fits(size: 0))
            #expect(some.fits(size: 1))
        }
    }
}
