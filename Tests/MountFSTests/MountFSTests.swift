import Catalog
import ChunkStore
import Glibc
import MCFSCore
import MountFS
import Synchronization
import Testing

@Suite struct MountFSTests {
    let store = FakeStore()
    let digest: BlobID
    let placed: BlobID
    let large = BlobID(origin: "test", "large")
    let fileSystem: MountFS

    init() throws {
        digest = try #require(BlobID(.sha256, [UInt8](repeating: 0xab, count: 32)))
        placed = BlobID(origin: "test", "placed")
        var builder = TreeBuilder()
        let first = builder.addSource(SourceDescriptor([:]))
        let second = builder.addSource(SourceDescriptor([:]))
        func add(_ path: String, _ kind: TreeEntry.Kind) throws {
            try builder.add(
                TreeEntry(
                    try TreePath(path), kind, permissions: 0o750, uid: 7, gid: 8,
                    modified: Timestamp(seconds: 99, nanoseconds: 5)))
        }
        try add("dir", .directory)
        try add("dir/b", .file(Content(id: digest, size: 1000, source: first, offset: 0)))
        try add("dir/a", .hardLink(try TreePath("dir/b")))
        try add("dir/c", .file(Content(id: placed, size: 10, source: second, offset: 5)))
        try add("large", .file(Content(id: large, size: MountFS.smallBytes, source: second, offset: 15)))
        try add("link", .symlink(target: Array("dir/b".utf8)))
        try add("pipe", .fifo)
        let tree = try builder.build()
        fileSystem = MountFS(
            tree: tree, sources: TreeSources(tree, [NamedSource("first"), NamedSource("second")]), store: store,
            origin: "oci://example.com/cache:1")
    }

    func node(_ path: String) throws -> Node {
        var node = Node.root
        for name in path.split(separator: "/") { node = try #require(try fileSystem.find(String(name), in: node)).node }
        return node
    }

    @Test("node numbers are places in the tree, and the same in a file system made anew")
    func nodesAreStable() throws {
        #expect(Node.root.number == 1)
        let other = MountFS(
            tree: fileSystem.tree, sources: TreeSources(fileSystem.tree) { _ in NamedSource("x") }, store: store)
        for path in ["dir", "dir/b", "dir/c", "link", "pipe"] {
            let entry = try #require(fileSystem.tree.entry(at: try TreePath(path)))
            let node = try node(path)
            #expect(node.number == UInt64(fileSystem.tree.inode(of: entry)) + 1)
            #expect(try other.files.attributes(of: node).kind == fileSystem.files.attributes(of: node).kind)
        }
    }

    @Test("hard links are one node with one link count")
    func hardLinks() throws {
        let a = try #require(try fileSystem.find("a", in: try node("dir")))
        let b = try #require(try fileSystem.find("b", in: try node("dir")))
        #expect(a.node == b.node)
        #expect(a.linkCount == 2)
        #expect(a.size == 1000)
    }

    @Test("a name that is not there is nil, a node that is not there throws")
    func missing() throws {
        #expect(try fileSystem.find("nothing") == nil)
        #expect(try fileSystem.find("") == nil)
        for number in [0, 100, UInt64(UInt32.max) + 1, UInt64.max] {
            #expect(throws: Errno.noEntry) { try fileSystem.files.attributes(of: Node(number: number)) }
            #expect(throws: Errno.noEntry) { try fileSystem.find("dir", in: Node(number: number)) }
            #expect(throws: FileError.self) { try fileSystem.open(Node(number: number)) }
            fileSystem.release(Node(number: number))
        }
    }

    @Test("attributes are those of the entry")
    func attributes() throws {
        let attributes = try fileSystem.files.attributes(of: try node("dir/c"))
        #expect(attributes.kind == .file)
        #expect(attributes.permissions == 0o750)
        #expect(attributes.uid == 7)
        #expect(attributes.gid == 8)
        #expect(attributes.size == 10)
        #expect(attributes.modified == Timestamp(seconds: 99, nanoseconds: 5))
        #expect(try fileSystem.files.attributes(of: node("pipe")).kind == .fifo)
        #expect(fileSystem.usage.bytes == 1010 + MountFS.smallBytes)
    }

    @Test("a link gives its target, anything else refuses")
    func links() throws {
        #expect(try fileSystem.files.readLink(node("link")) == Array("dir/b".utf8))
        #expect(throws: Errno.self) { try fileSystem.files.readLink(.root) }
        #expect(throws: Errno.self) { try fileSystem.list(node("link"), from: 0) { _, _ in true } }
    }

    @Test("a listing goes on where it stopped, wherever that was", arguments: 1...6)
    func listing(step: Int) throws {
        let directory = try node("dir")
        var seen: [String] = []
        var position: UInt64 = 0
        while true {
            let (names, next) = try fileSystem.names(directory, from: position, max: step)
            if names.isEmpty { break }
            seen += names
            position = next
        }
        #expect(seen == [".", "..", "a", "b", "c"])
        #expect(try fileSystem.names(directory, from: .max).0.isEmpty)
    }

    @Test("a listing shows the parent as .., and the root as its own")
    func dots() throws {
        var parents: [Node] = []
        for directory in [Node.root, try node("dir")] {
            try fileSystem.list(directory, from: 1) { _, entry in
                parents.append(entry.attributes.node)
                return false
            }
        }
        #expect(parents == [.root, .root])
    }

    @Test("a read is cut at the end of the file and is empty behind it")
    func endOfFile() throws {
        let node = try node("dir/b")
        for (offset, count, expected) in [
            (0, 4096, 1000), (990, 5, 5), (990, 4096, 10), (1000, 1, 0), (UInt64.max, 9, 0), (0, 0, 0),
        ]
            as [(UInt64, Int, Int)]
        {
            var got = -1
            switch try fileSystem.read(node, offset: offset, count: count, makeWaiter: { NullWaiter() }) {
            case .end: got = 0
            case .region(let region): got = region.count
            case .pending: break
            case .upper: break
            }
            #expect(got == expected)
        }
        #expect(fileSystem.reads.count == 6)
        #expect(fileSystem.reads.hits == 6)
        #expect(fileSystem.reads.bytes == 1015)
    }

    @Test("a handle is nothing but the node: reading without an open works, opens share one file")
    func handles() throws {
        let node = try node("dir/b")
        _ = try fileSystem.read(node, offset: 0, count: 1, makeWaiter: { NullWaiter() })
        try fileSystem.open(node)
        try fileSystem.open(node)
        #expect(fileSystem.openFileCount == 1)
        #expect(store.state.withLock { $0.opened } == [digest])
        fileSystem.release(node)
        #expect(fileSystem.openFileCount == 1)
        fileSystem.release(node)
        fileSystem.release(node)
        #expect(fileSystem.openFileCount == 0)
        try fileSystem.open(.root)
        #expect(fileSystem.openFileCount == 0)
    }

    @Test("a small file is opened when it is first read, and counts as used when it is opened")
    func smallFiles() throws {
        let node = try node("dir/b")
        for _ in 0..<3 {
            guard case .unread = try fileSystem.open(node) else { throw Unexpected() }
            fileSystem.release(node)
        }
        #expect(fileSystem.openFileCount == 0)
        #expect(store.state.withLock { $0.opened } == [])
        // Once a second, or twice where that has just begun.
        #expect([1, 2].contains(store.state.withLock { $0.used.count }))
        try fileSystem.open(node)
        for _ in 0..<2 { _ = try fileSystem.read(node, offset: 0, count: 1, makeWaiter: { NullWaiter() }) }
        #expect(store.state.withLock { $0.opened } == [digest])
        guard case .lower = try fileSystem.open(node) else { throw Unexpected() }
    }

    @Test("a large file is opened at once")
    func largeFiles() throws {
        let node = try node("large")
        guard case .lower = try fileSystem.open(node) else { throw Unexpected() }
        #expect(store.state.withLock { $0.opened } == [large])
    }

    struct Unexpected: Error {}

    @Test("misses and errors are counted, and an error is passed on")
    func statistics() throws {
        let node = try node("dir/c")
        store.state.withLock { $0.behaviour[placed] = .miss }
        _ = try fileSystem.read(node, offset: 0, count: 4, makeWaiter: { NullWaiter() })
        fileSystem.readSucceeded(bytes: 4)
        store.state.withLock { $0.behaviour[placed] = .fails(.corrupt) }
        let error = #expect(throws: MCFSError.self) {
            _ = try fileSystem.read(node, offset: 0, count: 4, makeWaiter: { NullWaiter() })
        }
        #expect(error?.code == .corrupt)
        var expected = ReadStatistics()
        expected.count = 2
        expected.bytes = 4
        expected.misses = 1
        expected.errors = 1
        #expect(fileSystem.reads == expected)
    }

    @Test("extended attributes say origin, digest, what is local and the verdict")
    func extendedAttributes() throws {
        func text(_ attribute: MountFS.ExtendedAttribute, _ path: String) throws -> String? {
            try fileSystem.value(of: attribute, try node(path))
        }
        #expect(try text(.origin, "dir/b") == "first")
        #expect(try text(.origin, "dir/c") == "second")
        #expect(try text(.origin, "dir") == "oci://example.com/cache:1")
        #expect(try text(.digest, "dir/b") == "sha256:" + String(repeating: "ab", count: 32))
        #expect(try text(.digest, "dir/c") == nil)
        #expect(try text(.local, "dir/b") == "500")
        #expect(try text(.verdict, "dir") == "any")
        #expect(try text(.verdict, "link") == nil)
        let names = String(
            decoding: try fileSystem.files.extendedAttributeNames(of: try node("dir/c"), for: .nobody), as: UTF8.self)
        #expect(names == "user.mcfs.origin\0user.mcfs.local\0user.mcfs.verdict\0")
    }

    @Test("what nobody can write to answers every change with EROFS, and knows no attribute of others")
    func changes() throws {
        let node = try node("dir/b")
        #expect(throws: Errno(rawValue: EROFS)) {
            try fileSystem.files.remove(Array("dir".utf8), in: .root, isDirectory: true)
        }
        #expect(throws: Errno(rawValue: EROFS)) { try fileSystem.files.change(node, AttributeChange(), by: .nobody) }
        for flags in [O_WRONLY, O_RDWR, O_TRUNC] {
            #expect(throws: FileError.self) { try fileSystem.open(node, flags: flags) }
        }
        #expect(fileSystem.openFileCount == 0)
        #expect(throws: Errno(rawValue: EOPNOTSUPP)) {
            try fileSystem.files.extendedAttribute(Array("security.capability".utf8), of: node)
        }
    }
}
