import Catalog
import MCFSCore
import Testing

@Suite struct TreeTests {
    @Test("an empty tree is a root with 0755") func empty() throws {
        let tree = try TreeBuilder().build()
        #expect(tree.count == 1)
        let root = tree.attributes(of: Tree.root)
        #expect(root.kind == .directory && root.permissions == 0o755 && root.linkCount == 2)
        #expect(tree.children(of: Tree.root).isEmpty && tree.contents.isEmpty)
    }

    @Test("entries are numbered breadth first, children sorted by bytes") func numbering() throws {
        var builder = TreeBuilder()
        _ = builder.addSource(oneSource[0])
        for entry in [file("b/y", "1"), file("a/z", "2"), file("é", "3"), file("B", "4"), file("a/c/d", "5")] {
            try builder.add(entry)
        }
        let tree = try builder.build()
        #expect(
            (0..<Tree.Index(tree.count)).map { tree.path(of: $0).description } == [
                "", "B", "a", "b", "é", "a/c", "a/z", "b/y", "a/c/d",
            ])
        #expect(tree.children(of: 0) == 1..<5)
        #expect(tree.children(of: 2) == 5..<7)
        #expect(tree.attributes(of: 0).linkCount == 4)
        #expect(tree.attributes(of: 2).permissions == 0o755)
        #expect(tree.entry(at: path("a/c/d")) == 8)
        #expect(tree.entry(at: path("a/c/e")) == nil)
        #expect(tree.entry(at: path("B/x")) == nil)
        #expect(tree.entry(at: .root) == 0)
        #expect(tree.parent(of: 8) == 5)
        #expect(tree.withName(of: 4) { Array($0) } == Array("é".utf8))
    }

    @Test("the same entries in any order make the same tree") func order() throws {
        let entries = [file("a/b", "1"), directory("a", permissions: 0o700), link("c", to: "a/b"), file("d/e/f", "2")]
        func tree(_ entries: [TreeEntry]) throws -> [UInt8] {
            var builder = TreeBuilder()
            _ = builder.addSource(oneSource[0])
            for entry in entries { try builder.add(entry) }
            return try builder.build().serialized()
        }
        #expect(try tree(entries) == tree(entries.reversed()))
    }

    @Test("attributes of every kind") func kinds() throws {
        let tree = try layered([
            file("file", "x", offset: 512, size: 77), entry("link", .symlink(target: Array("../a".utf8))),
            entry("pipe", .fifo),
            entry("tty", .characterDevice(major: 0x1234, minor: 0x56789)),
            entry("disk", .blockDevice(major: 8, minor: 1)),
        ])
        func attributes(_ name: String) throws -> Tree.Attributes { tree.attributes(of: try #require(tree.find(name))) }
        #expect(try attributes("file").size == 77)
        #expect(try attributes("link").size == 4 && attributes("link").kind == .symlink)
        #expect(try tree.target(of: #require(tree.find("link"))) == Array("../a".utf8))
        #expect(try attributes("pipe").kind == .fifo)
        #expect(try attributes("disk").device == 0x801)
        #expect(try attributes("tty").device == (0x1000 << 32 | 0x234 << 8 | 0x56700 << 12 | 0x89))
        #expect(try tree.content(of: #require(tree.find("file"))) == content("x", offset: 512, size: 77))
        #expect(try tree.content(of: #require(tree.find("pipe"))) == nil)
    }

    @Test("hard links share an inode and count their names") func hardLinks() throws {
        let tree = try layered([
            link("z", to: "m"), link("m", to: "a/f"), file("a/f", "x"), entry("l", .symlink(target: [97])),
            link("k", to: "l"),
        ])
        let names = try ["z", "m", "a/f"].map { try #require(tree.find($0)) }
        #expect(Set(names.map(tree.inode)).count == 1)
        #expect(tree.inode(of: names[0]) == names.min())
        #expect(names.allSatisfy { tree.attributes(of: $0).linkCount == 3 })
        #expect(try tree.inode(of: #require(tree.find("l"))) == tree.find("k"))
        #expect(tree.contents.count == 1)
    }

    @Test("the same content twice is listed once, places are all known") func contents() throws {
        let tree = try layered([
            file("a", "x", offset: 0, size: 10), file("b", "x", offset: 20, size: 10),
            file("c", "y", offset: 10, size: 10),
        ])
        #expect(Array(tree.contents) == [content("x", offset: 0, size: 10), content("y", offset: 10, size: 10)])
        let all = tree.layout(ofSource: 0).contents(overlapping: ByteRange(0, 30))
        #expect(all.map(\.offset) == [0, 10, 20])
    }

    @Test("a layout finds what overlaps a range, whatever lies before it")
    func layout() throws {
        // The first reaches over all others; the empty one overlaps nothing.
        let placed: [(UInt64, UInt64)] = [(0, 100), (10, 5), (20, 5), (22, 0), (30, 10), (95, 30)]
        var entries: [TreeEntry] = []
        for (number, (offset, size)) in placed.enumerated() {
            entries.append(file("f\(number)", "\(number)", source: 1, offset: offset, size: size))
            entries.append(file("g\(number)", "g\(number)", source: 0, offset: 1000 + offset, size: size))
        }
        var builder = TreeBuilder()
        try builder.apply(layer: entries, sources: oneSource + oneSource)
        let layout = try builder.build().layout(ofSource: 1)
        for low in UInt64(0)..<130 {
            for high in low..<130 {
                let expected = placed.filter { $0.1 > 0 && low < high && $0.0 < high && $0.0 + $0.1 > low }.map(\.0)
                #expect(layout.contents(overlapping: ByteRange(low, high)).map(\.offset) == expected)
            }
        }
    }

    @Test("100 000 entries are built, written, read and found") func large() throws {
        var builder = TreeBuilder()
        _ = builder.addSource(oneSource[0])
        for number in 0..<100_000 {
            try builder.add(
                file(
                    "d\(number % 300)/e\(number % 7)/file-\(number)", "\(number)", offset: UInt64(number) * 4096,
                    size: 4000))
        }
        let built = try builder.build()
        let bytes = built.serialized()
        let tree = try bytes.withUnsafeBytes { try Tree.deserialize($0) }
        #expect(tree.count == 100_000 + 300 + 2100 + 1)
        #expect(bytes.count - 100_000 * 11 < 120 * tree.count)
        for entry in 0..<Tree.Index(tree.count) {
            guard entry == 0 || tree.withName(of: entry, { tree.lookup($0, in: tree.parent(of: entry)) }) == entry
            else {
                Issue.record("entry \(entry) is not found")
                return
            }
        }
        #expect(tree.layout(ofSource: 0).contents(overlapping: ByteRange(0, 1 << 20)).count == 256)
    }
}

@Suite struct KernelManifestTests {
    @Test("a source tells where a manifest of kernels lies in it; what cannot be one is none")
    func roundTrip() throws {
        let content = Content(id: BlobID(origin: "layer", "5"), size: 7, source: 0, offset: 1 << 40)
        var source = SourceDescriptor(["kind": "x"])
        #expect(source.kernelManifest == nil)
        source.kernelManifest = content
        #expect(source.kernelManifest == content && source["kind"] == "x")
        for text in ["", "1 2", "1 2 nothing", "-1 2 \(content.id)"] {
            #expect(SourceDescriptor(["kernelManifest": text]).kernelManifest == nil)
        }
    }
}
