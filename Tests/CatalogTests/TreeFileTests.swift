import Crypto
import MCFSCore
import Testing

@testable import Catalog

@Suite struct TreeFileTests {
    private func sample() throws -> Tree {
        var builder = TreeBuilder()
        let git = try #require(BlobID("git-" + String(repeating: "ab", count: 20)))
        try builder.apply(
            layer: [
                file("a/b", "x", offset: 7, size: 9), directory("empty"),
                entry("l", .symlink(target: Array("a/b".utf8))), link("h", to: "a/b"),
                entry("n", .characterDevice(major: 1, minor: 3)),
                TreeEntry(
                    path("g"), .file(Content(id: git, size: 5, source: 1, offset: 0)), permissions: 0o4755, uid: 7,
                    gid: 8,
                    modified: Timestamp(seconds: -5, nanoseconds: 999)),
            ], sources: [SourceDescriptor(["k": "v", "digest": "sha256:é"]), SourceDescriptor([:])])
        return try builder.build()
    }

    private func code(_ bytes: [UInt8]) -> MCFSError.Code? {
        do {
            _ = try bytes.withUnsafeBytes { try Tree.deserialize($0) }
            return nil
        } catch { return (error as? MCFSError)?.code }
    }

    @Test("a tree read back is the same") func roundTrip() throws {
        let tree = try sample()
        let bytes = tree.serialized()
        let copy = try bytes.withUnsafeBytes { try Tree.deserialize($0) }
        #expect(copy.presented == tree.presented)
        #expect(copy.sources == tree.sources)
        #expect(Array(copy.contents) == Array(tree.contents))
        #expect(copy.serialized() == bytes)
    }

    @Test("a tree that was written with the texts of all sources is read") func firstVersion() throws {
        let tree = try sample()
        let bytes = tree.serialized()
        let first = try bytes.withUnsafeBytes { bytes in
            let reader = try SectionReader(bytes, magic: "mcfsTREE", version: 2, sectionCount: 22)
            var writer = SectionWriter(magic: "mcfsTREE", version: 1, sectionCount: 20, reservingBytes: bytes.count)
            for section in 0..<19 { writer.add(Array(reader.bytes(of: section))) }
            var fields = FieldWriter()
            fields.write(UInt32(tree.sources.count))
            for source in tree.sources {
                fields.write(UInt32(source.properties.count))
                for (key, value) in source.properties.sorted(by: { $0.key < $1.key }) {
                    fields.write(Array(key.utf8))
                    fields.write(Array(value.utf8))
                }
            }
            writer.add(fields.bytes)
            return writer.finish()
        }
        let copy = try first.withUnsafeBytes { try Tree.deserialize($0) }
        #expect(copy.presented == tree.presented)
        #expect(copy.sources == tree.sources)
        #expect(copy.serialized() == bytes)
    }

    @Test("a file cut at any length, or with more at its end, is corrupt") func truncation() throws {
        let bytes = try sample().serialized()
        for count in 0..<bytes.count { #expect(code(Array(bytes[..<count])) == .corrupt) }
        #expect(code(bytes + [0]) == .corrupt)
        #expect(code(bytes + [UInt8](repeating: 0, count: 8)) == .corrupt)
    }

    @Test("any flipped bit is corrupt") func bitFlips() throws {
        let bytes = try sample().serialized()
        for position in bytes.indices {
            var damaged = bytes
            damaged[position] ^= 1 << UInt8(position % 8)
            #expect(code(damaged) == .corrupt)
        }
    }

    @Test("wrong numbers under a right checksum never crash, and what is read can be walked") func wrongNumbers() throws
    {
        let bytes = try sample().serialized()
        let seed = UInt64.random(in: 0...UInt64.max)
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<20_000 {
            var damaged = bytes
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let position = Int.random(in: 40..<bytes.count, using: &generator)
                damaged[position] =
                    [0, 1, 0x7f, 0x80, 0xff, UInt8.random(in: 0...255, using: &generator)]
                    .randomElement(using: &generator) ?? 0
            }
            damaged.replaceSubrange(8..<40, with: Array(SHA256.hash(data: damaged[40...])))
            guard let tree = try? damaged.withUnsafeBytes({ try Tree.deserialize($0) }) else { continue }
            for entry in 0..<Tree.Index(tree.count) {
                _ = tree.attributes(of: entry)
                _ = tree.target(of: entry)
                #expect(tree.path(of: entry).components.count < tree.count, "seed \(seed)")
                #expect(tree.children(of: entry).allSatisfy { tree.parent(of: $0) == entry }, "seed \(seed)")
            }
            for source in tree.sources.indices {
                _ = tree.layout(ofSource: source).contents(overlapping: ByteRange(0, .max))
            }
            for content in tree.contents { #expect(tree.sources.indices.contains(content.source)) }
        }
    }

    @Test("a file of another format or version says so") func foreign() throws {
        var bytes = try sample().serialized()
        bytes[40] = 3
        let error = #expect(throws: MCFSError.self) { try bytes.withUnsafeBytes { try Tree.deserialize($0) } }
        #expect(error?.message.contains("version is 3") == true)
        #expect(code(Array("SQLite format 3\0".utf8) + bytes) == .corrupt)
        #expect(code([]) == .corrupt)
    }
}
