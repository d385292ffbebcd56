import Catalog
import MCFSCore
import Testing

@Suite struct TreeBuilderTests {
    @Test("a whiteout hides what layers below have") func whiteout() throws {
        let tree = try layered(
            [file("a/b"), file("a/c"), file("d/e/f")], [entry("a/b", .whiteout), entry("d", .whiteout)])
        #expect(tree.paths == ["a/", "a/c"])
    }

    @Test("a name that comes very often takes a time that grows with how often", .timeLimit(.minutes(5)))
    func sameName() throws {
        let layer = (0..<300_000).map { file("d/a", "\($0)") }
        let tree = try layered(layer, [entry("d", .whiteout)] + layer)
        #expect(tree.paths == ["d/", "d/a"])
        let entry = try #require(tree.find("d/a"))
        #expect(tree.content(of: entry)?.id == content("299999").id)
    }

    @Test("a path that nobody could open is refused")
    func longPath() throws {
        let deep = String(repeating: "a/", count: 2047) + "a"
        #expect(try layered([file(deep)]).count == 2049)
        for name in [deep + "b", String(repeating: "a/", count: 20_000) + "a"] {
            let error = #expect(throws: MCFSError.self) { try layered([file(name)]) }
            #expect(error?.code == .corrupt && (error?.message.utf8.count ?? 0) < 400)
        }
    }

    @Test("a name that was hidden and comes again is there once")
    func hiddenAndBack() throws {
        let renewed = (0..<20).flatMap { [[file("a/b", "\($0)"), file("a/c")], [entry("a/b", .whiteout)]] }
        var builder = TreeBuilder()
        for layer in renewed + [[file("a/b", "last")]] { try builder.apply(layer: layer, sources: oneSource) }
        let tree = try builder.build()
        #expect(tree.paths == ["a/", "a/b", "a/c"])
        #expect(try tree.content(of: #require(tree.find("a/b")))?.id == content("last").id)
    }

    @Test("a whiteout of nothing is nothing") func whiteoutOfNothing() throws {
        let tree = try layered([file("a")], [entry("b", .whiteout), entry("a/x", .whiteout), entry("q/r", .whiteout)])
        #expect(tree.paths == ["a"])
    }

    @Test("a whiteout and its name in one layer: the name stays", arguments: [false, true]) func renewed(reversed: Bool)
        throws
    {
        let layer = [entry("a", .whiteout), directory("a"), file("a/new")]
        let tree = try layered([file("a/old")], reversed ? layer.reversed() : layer)
        #expect(tree.paths == ["a/", "a/new"])
    }

    @Test("an opaque directory hides lower children and none of its layer", arguments: [false, true])
    func opaque(reversed: Bool) throws {
        let layer = [file("a/new"), entry("a", .opaque), directory("a", permissions: 0o711)]
        let tree = try layered([file("a/old"), file("a/deep/old"), file("b")], reversed ? layer.reversed() : layer)
        #expect(tree.paths == ["a/", "a/new", "b"])
        #expect(try tree.attributes(of: #require(tree.find("a"))).permissions == 0o711)
    }

    @Test("an opaque root hides all below") func opaqueRoot() throws {
        #expect(try layered([file("a/b")], [entry("", .opaque), file("c")]).paths == ["c"])
    }

    @Test("files and directories of lower layers are replaced by the other") func replacement() throws {
        let tree = try layered([file("a/b"), file("c"), file("d")], [file("a"), directory("c"), file("d/e")])
        #expect(tree.paths == ["a", "c/", "d/", "d/e"])
    }

    @Test("a path through a file of its own layer is corrupt") func throughFile() throws {
        for entries in [[file("a"), file("a/b")], [link("a", to: "x"), file("x"), file("a/b")]] {
            let error = #expect(throws: MCFSError.self) { try layered(entries) }
            #expect(error?.code == .corrupt)
            #expect(error?.message.contains("'a'") == true)
        }
        #expect(throws: MCFSError.self) {
            var builder = TreeBuilder()
            try builder.add(entry("a", .fifo))
            try builder.add(entry("a/b/c", .fifo))
        }
    }

    @Test("of a path that comes twice the last wins, two directories become one") func twice() throws {
        let tree = try layered([
            file("a", "1"), file("a", "2"), file("d/x"), directory("d", permissions: 0o700), file("e/x"), file("e"),
        ])
        #expect(tree.paths == ["a", "d/", "d/x", "e"])
        #expect(try tree.content(of: #require(tree.find("a")))?.id == BlobID(origin: "2"))
    }

    @Test("an explicit directory after its children has its attributes") func lateDirectory() throws {
        let tree = try layered([file("a/b"), directory("a", permissions: 0o750)], [file("a/c")])
        #expect(try tree.attributes(of: #require(tree.find("a"))).permissions == 0o750)
    }

    @Test("a hard link reaches into the layers below, also to what its layer hides") func hardLinkBelow() throws {
        let tree = try layered(
            [file("a", "x"), file("b", "y")], [link("c", to: "a"), link("d", to: "b"), entry("b", .whiteout)])
        #expect(tree.paths == ["a", "c", "d"])
        #expect(tree.find("a").map(tree.inode) == tree.find("c").map(tree.inode))
        #expect(try tree.content(of: #require(tree.find("d")))?.id == BlobID(origin: "y"))
        #expect(try tree.attributes(of: #require(tree.find("d"))).linkCount == 1)
    }

    @Test("a hard link prefers the file of its own layer") func hardLinkWithin() throws {
        let tree = try layered([file("a", "old")], [link("b", to: "a"), file("a", "new")])
        #expect(try tree.content(of: #require(tree.find("b")))?.id == BlobID(origin: "new"))
    }

    @Test("a file written anew in a higher layer leaves its other names as they were") func brokenLink() throws {
        let tree = try layered([file("a", "old"), link("b", to: "a")], [file("a", "new")])
        #expect(try tree.content(of: #require(tree.find("b")))?.id == BlobID(origin: "old"))
        #expect(try tree.attributes(of: #require(tree.find("b"))).linkCount == 1)
    }

    @Test("a hard link to nothing, to itself, in a ring or to a directory is corrupt") func danglingLinks() {
        for entries in [
            [link("a", to: "b")], [link("a", to: "a")], [link("a", to: "b"), link("b", to: "c"), link("c", to: "b")],
            [directory("d"), link("a", to: "d")],
        ] {
            #expect(throws: MCFSError.self) { try layered(entries) }
            #expect(throws: MCFSError.self) {
                var builder = TreeBuilder()
                for entry in entries { try builder.add(entry) }
                _ = try builder.build()
            }
        }
    }

    @Test("a chain of 100 000 hard links is one file") func longChain() throws {
        var entries = [file("0", "x")]
        for number in 1...100_000 { entries.append(link("\(number)", to: "\(number - 1)")) }
        let tree = try layered(entries.reversed())
        #expect(tree.attributes(of: 1).linkCount == 100_001)
    }

    @Test("a path of 2000 directories") func deep() throws {
        let name = Array(repeating: "d", count: 2000).joined(separator: "/")
        #expect(try layered([file(name)]).count == 2001)
    }

    @Test("whiteouts outside of layers, sizes beyond 64 TiB, places beyond 2^64 and unknown sources are refused")
    func refused() {
        var builder = TreeBuilder()
        #expect(throws: MCFSError.self) { try builder.add(entry("a", .whiteout)) }
        #expect(throws: MCFSError.self) { try builder.add(file("a", source: 0)) }
        _ = builder.addSource(oneSource[0])
        #expect(throws: MCFSError.self) { try builder.add(file("a", source: -1)) }
        #expect(throws: MCFSError.self) { try builder.add(file("a", size: 1 << 46 + 1)) }
        #expect(throws: Never.self) { try builder.add(file("a", size: 1 << 46)) }
        #expect(throws: MCFSError.self) { try builder.add(file("a", offset: .max - 1, size: 2)) }
        #expect(throws: MCFSError.self) { try builder.add(entry("", .fifo)) }
        #expect(throws: MCFSError.self) { try builder.apply(layer: [entry("", .whiteout)], sources: []) }
    }

    @Test("merged trees: later wins, folders merge, sources follow") func merge() throws {
        let first = try layered([file("a/x", "1"), file("a/y", "2"), file("clash", "3"), file("dir/inner", "4")])
        let second = try layered([
            file("a/y", "5", offset: 9), file("clash/z", "6"), file("dir", "7"), link("same", to: "dir"),
        ])
        var builder = TreeBuilder()
        try builder.merge(first, at: .root)
        try builder.merge(second, at: .root)
        try builder.merge(second, at: path("sub/tree"))
        let tree = try builder.build()
        #expect(
            tree.paths == [
                "a/", "a/x", "a/y", "clash/", "clash/z", "dir", "same", "sub/", "sub/tree/", "sub/tree/a/",
                "sub/tree/a/y",
                "sub/tree/clash/", "sub/tree/clash/z", "sub/tree/dir", "sub/tree/same",
            ])
        #expect(tree.sources.count == 3)
        #expect(try tree.content(of: #require(tree.find("a/x")))?.source == 0)
        #expect(try tree.content(of: #require(tree.find("a/y"))) == content("5", source: 1, offset: 9))
        #expect(try tree.content(of: #require(tree.find("sub/tree/a/y")))?.source == 2)
        let links = try ["dir", "same", "sub/tree/dir", "sub/tree/same"].map {
            tree.inode(of: try #require(tree.find($0)))
        }
        #expect(links[0] == links[1] && links[2] == links[3] && links[0] != links[2])
        #expect(tree.contents.count == 4)
    }

    // MARK: What was remembered

    private func rearranged(_ entries: [TreeEntry], _ marks: [(String, String?)], at directory: String = "") throws
        -> Tree
    {
        var builder = TreeBuilder()
        try builder.apply(layer: entries, sources: oneSource)
        try builder.rearrange(marks.map { (path($0), $1.map { path($0) }) }, at: path(directory))
        return try builder.build()
    }

    @Test("what was deleted is gone, and what was renamed is at its new name alone") func remembered() throws {
        let tree = try rearranged(
            [file("a", "a"), file("b", "b"), directory("d"), file("d/x", "x"), file("d/deep/y", "y")],
            [
                ("a", nil), ("c", "b"), ("b", nil), ("d", nil), ("e", "d"), ("e/x", nil), ("e/z", "d/deep/y"),
                ("e/deep/y", nil),
            ])
        #expect(tree.paths == ["c", "e/", "e/deep/", "e/z"])
        #expect(try tree.content(of: #require(tree.find("c")))?.id == BlobID(origin: "b"))
        #expect(try tree.content(of: #require(tree.find("e/z")))?.id == BlobID(origin: "y"))
    }

    @Test("entries that changed places have done so, also one that is below the other now") func exchanged() throws {
        let tree = try rearranged(
            [file("a/1"), file("b/2"), file("c/d/3"), file("f", "f")],
            [("a", "b"), ("b", "a"), ("d", "c/d"), ("c", nil), ("d/f", "f"), ("f", nil)], at: "")
        #expect(tree.paths == ["a/", "a/2", "b/", "b/1", "d/", "d/3", "d/f"])
    }

    @Test("what is remembered of a tree that changed since is left out, and nothing beside its place is touched")
    func rememberedElsewhere() throws {
        let tree = try rearranged(
            [file("s/a"), file("a"), file("b")], [("a", nil), ("q", "b"), ("none/x", "nothing"), ("z/y", nil)], at: "s")
        #expect(tree.paths == ["a", "b", "s/"])
    }

    @Test("other attributes are of the entry, by all its names") func changedAttributes() throws {
        var builder = TreeBuilder()
        try builder.apply(layer: [file("a"), link("b", to: "a"), file("c")], sources: oneSource)
        builder.change(
            path("b"), permissions: 0o600, uid: 7, gid: nil, modified: Timestamp(seconds: 5, nanoseconds: 6))
        builder.change(path("none"), permissions: 0, uid: nil, gid: nil, modified: nil)
        let tree = try builder.build()
        for name in ["a", "b"] {
            let attributes = try tree.attributes(of: #require(tree.find(name)))
            #expect(attributes.permissions == 0o600 && attributes.uid == 7 && attributes.gid == 0)
            #expect(attributes.modified == Timestamp(seconds: 5, nanoseconds: 6))
        }
        #expect(try tree.attributes(of: #require(tree.find("c"))).permissions == 0o644)
    }
}
