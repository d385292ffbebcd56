import Catalog
import ChunkStore
import MCFSCore
import MCFSTestSupport
import MountFS
import Synchronization
import Testing

@Suite struct TreeSourcesTests {
    /// A tree with a source for each of its files.
    private static func tree(files: Int) throws -> Tree {
        var builder = TreeBuilder()
        for number in 0..<files {
            let source = builder.addSource(SourceDescriptor(["path": "\(number)"]))
            let content = Content(id: BlobID(origin: "\(number)"), size: 1, source: source, offset: 0)
            try builder.add(TreeEntry(try TreePath("\(number)"), .file(content), permissions: 0o644))
        }
        return try builder.build()
    }

    /// Counts what was made, and reads as the byte that its number is.
    private final class Maker: Sendable {
        let made = Lock<[Int]>([])

        func make(_ number: Int) -> any ByteSource {
            made.withLock { $0.append(number) }
            return MemorySource([UInt8(truncatingIfNeeded: number)])
        }

        var count: Int { made.withLock { $0.count } }
    }

    private func byte(_ source: any ByteSource) throws -> UInt8? {
        let sink = CollectingSink()
        try source.read(ByteRange(0, 1), deadline: .soon, into: sink)
        return sink.bytes.first
    }

    @Test("nothing is made before something is read") func laziness() throws {
        let maker = Maker()
        let tree = try Self.tree(files: 3)
        let sources = TreeSources(tree, make: maker.make)
        let content = try #require(tree.content(of: 2))
        let file = try sources.content(content)
        #expect(maker.count == 0)
        #expect(try byte(file.source) == UInt8(content.source))
        #expect(maker.made.withLock { $0 } == [content.source])
    }

    @Test("a file that is in use has one source, also after thousands of others were read") func identity() throws {
        let maker = Maker()
        let sources = TreeSources(try Self.tree(files: 5000), make: maker.make)
        let held = try sources.source(7)
        #expect(try byte(held) == 7)
        for number in 0..<5000 { #expect(try byte(sources.source(number)) == UInt8(truncatingIfNeeded: number)) }
        #expect(try sources.source(7) === held)
        #expect(try byte(held) == 7)
    }

    @Test("a source that is read again and again is kept while others come and go") func keeping() throws {
        let maker = Maker()
        let sources = TreeSources(try Self.tree(files: 5000), make: maker.make)
        for number in 1..<5000 {
            _ = try byte(sources.source(number))
            _ = try byte(sources.source(0))
        }
        #expect(maker.made.withLock { $0.count { $0 == 0 } } == 1)
    }

    @Test("a source that is not there, and one that cannot be made, are errors") func errors() throws {
        let tree = try Self.tree(files: 1)
        let sources = TreeSources(tree, [])
        #expect(throws: MCFSError.self) { try sources.source(1) }
        let error = #expect(throws: MCFSError.self) { try byte(sources.source(0)) }
        #expect(error?.code == .corrupt)
        #expect(throws: MCFSError.self) { try sources.check(0) }
    }

    @Test("a range of one file fills no other") func layout() throws {
        let tree = try Self.tree(files: 20)
        let sources = TreeSources(tree, make: Maker().make)
        for entry in 1...Tree.Index(20) {
            let content = try #require(tree.content(of: entry))
            let file = try sources.content(content)
            #expect(file.layout?.contents(overlapping: ByteRange(0, 1)) == [content])
        }
    }
}
