import Catalog
import ChunkStore
import MCFSCore
import MountFS
import Synchronization
import Testing

@Suite struct TreeViewTests {
    let tree: Tree
    let store = FakeStore()
    let groupID = BlobID(origin: "test", "group")

    init() throws {
        var builder = TreeBuilder()
        let source = builder.addSource(SourceDescriptor([:]))
        func add(_ path: String, _ content: Content) throws {
            try builder.add(TreeEntry(try TreePath(path), .file(content), permissions: 0o644))
        }
        for name in ["A", "B", "C"] {
            try add(
                "\(name)/kernel.cubin",
                Content(id: BlobID(origin: "test", name), size: 100, source: source, offset: 0))
        }
        try add("B/__grp__kernel.json", Content(id: groupID, size: 5, source: source, offset: 500))
        tree = try builder.build()
    }

    private func entry(_ path: String) throws -> Tree.Index { try #require(tree.entry(at: try TreePath(path))) }

    private func hiding(_ paths: String...) throws -> Bitmap {
        var hidden = Bitmap(count: tree.count)
        for path in paths { hidden.insert(Int(try entry(path))) }
        return hidden
    }

    private func fileSystem(_ view: TreeView) -> MountFS {
        MountFS(tree: tree, sources: TreeSources(tree, [NamedSource("source")]), store: store, view: view)
    }

    private func names(_ fileSystem: MountFS, from position: UInt64 = 2) throws -> [String] {
        var names: [String] = []
        try fileSystem.list(.root, from: position) { name, _ in
            names.append(String(decoding: name, as: UTF8.self))
            return true
        }
        return names
    }

    @Test("what is hidden is neither found nor listed, and shows again when it is hidden no more")
    func hiding() throws {
        let view = TreeView(tree)
        let fileSystem = fileSystem(view)
        #expect(try names(fileSystem) == ["A", "B", "C"])
        view.hide(try hiding("B"))
        #expect(try names(fileSystem) == ["A", "C"])
        #expect(try fileSystem.find("B", in: .root) == nil)
        #expect(try fileSystem.find("A", in: .root) != nil)
        view.hide(try hiding("A", "C"))
        #expect(try names(fileSystem) == ["B"])
        view.hide(Bitmap(count: tree.count))
        #expect(try names(fileSystem) == ["A", "B", "C"])
    }

    @Test("a listing that goes on after the view changed neither repeats nor skips what shows all along")
    func listingGoesOn() throws {
        let view = TreeView(tree)
        let fileSystem = fileSystem(view)
        var next: UInt64 = 0
        try fileSystem.list(.root, from: 2) { name, entry in
            next = entry.nextPosition
            return !name.elementsEqual("A".utf8)
        }
        view.hide(try hiding("A", "B"))
        #expect(try names(fileSystem, from: next) == ["C"])
    }

    @Test("what is open in a directory that becomes hidden can be read on")
    func openFilesGoOn() throws {
        let view = TreeView(tree)
        let fileSystem = fileSystem(view)
        let directory = try #require(try fileSystem.find("B", in: .root)).node
        let file = try #require(try fileSystem.find("kernel.cubin", in: directory)).node
        try fileSystem.open(file)
        view.hide(try hiding("B"))
        guard case .region = try fileSystem.read(file, offset: 0, count: 10, makeWaiter: { FakeWaiter() }) else {
            Issue.record("the file cannot be read any more")
            return
        }
        fileSystem.release(file)
    }

    // MARK: Rewriting

    private func rewriting() throws -> TreeView {
        let group = try entry("B/__grp__kernel.json")
        store.state.withLock { $0.bytes[groupID] = Array("hello".utf8) }
        return TreeView(
            tree, rewriting: TreeView.Rewriting(sizes: [group: 8]) { _, stored in stored + Array("!!!".utf8) })
    }

    private func group(_ fileSystem: MountFS) throws -> NodeAttributes {
        let directory = try #require(try fileSystem.find("B", in: .root)).node
        return try #require(try fileSystem.find("__grp__kernel.json", in: directory))
    }

    @Test("a rewritten file has its new size before anything of it is fetched")
    func sizeWithoutBytes() throws {
        let fileSystem = fileSystem(try rewriting())
        #expect(try group(fileSystem).size == 8)
        #expect(store.state.withLock { $0.opened.isEmpty })
    }

    @Test(
        "any part of a rewritten file is a part of its new bytes",
        arguments: [(0, 100, "hello!!!"), (0, 3, "hel"), (3, 4, "lo!!"), (7, 1, "!"), (8, 1, ""), (90, 1, "")])
    func parts(offset: Int, count: Int, expected: String) throws {
        let fileSystem = fileSystem(try rewriting())
        let node = try group(fileSystem).node
        try fileSystem.open(node)
        defer { fileSystem.release(node) }
        // The second read finds the bytes made already.
        for _ in 0..<2 {
            switch try fileSystem.read(node, offset: UInt64(offset), count: count, makeWaiter: { FakeWaiter() }) {
            case .region(let region):
                #expect(region.withBytes { String(decoding: $0, as: UTF8.self) } == expected)
            case .end: #expect(expected.isEmpty)
            case .pending: Issue.record("the bytes are local")
            case .upper: Issue.record("there is no upper")
            }
        }
    }

    @Test("a reader of a rewritten file that must be fetched gets the new bytes when they are there")
    func pendingRead() throws {
        let fileSystem = fileSystem(try rewriting())
        store.state.withLock { $0.behaviour[groupID] = .miss }
        let node = try group(fileSystem).node
        let waiter = FakeWaiter()
        guard case .pending = try fileSystem.read(node, offset: 2, count: 100, makeWaiter: { waiter }) else {
            Issue.record("the bytes are not local")
            return
        }
        // All of the stored file was asked for.
        #expect(store.state.withLock { $0.ranges } == [ByteRange(0, 5)])
        let inner = try #require(store.state.withLock { $0.waiters.popLast() })
        inner.complete(.success(FileRegion(copying: Array("hello".utf8)[...])))
        #expect(try waiter.bytes.withLock { $0 }?.get() == Array("llo!!!".utf8))
    }

    @Test("a reader of a rewritten file that cannot be fetched gets the error")
    func failedRead() throws {
        let fileSystem = fileSystem(try rewriting())
        store.state.withLock { $0.behaviour[groupID] = .miss }
        let node = try group(fileSystem).node
        let waiter = FakeWaiter()
        _ = try fileSystem.read(node, offset: 0, count: 100, makeWaiter: { waiter })
        let inner = try #require(store.state.withLock { $0.waiters.popLast() })
        inner.complete(.failure(MCFSError(.originUnavailable, "gone")))
        #expect(throws: MCFSError.self) { try waiter.bytes.withLock { $0 }?.get() }
    }

    // MARK: Observing

    private final class Observer: ViewObserver {
        let heard = Lock<[String]>([])
        func isWatched(_ name: UnsafeRawBufferPointer) -> Bool { !name.elementsEqual("ignored".utf8) }
        func missed(_ path: TreePath) { heard.withLock { $0.append("missed \(path)") } }
        func opened(_ path: TreePath) { heard.withLock { $0.append("opened \(path)") } }
        func verdict(of entry: Tree.Index) -> String { "compatible" }
    }

    @Test("names that are looked up in vain, hidden ones among them, and files that are opened are told")
    func observing() throws {
        let observer = Observer()
        let view = TreeView(tree, observer: observer)
        view.hide(try hiding("A"))
        let fileSystem = fileSystem(view)
        for name in ["D", "ignored", "A"] { #expect(try fileSystem.find(name, in: .root) == nil) }
        try fileSystem.open(try group(fileSystem).node)
        #expect(observer.heard.withLock { $0 } == ["missed D", "missed A", "opened B/__grp__kernel.json"])
        #expect(try fileSystem.value(of: .verdict, .root) == "compatible")
    }
}

/// Keeps what it is completed with.
final class FakeWaiter: ReadWaiter {
    let bytes = Lock<Result<[UInt8], MCFSError>?>(nil)

    func complete(_ result: consuming Result<FileRegion, MCFSError>) {
        switch consume result {
        case .success(let region):
            let bytes = region.withBytes { Array($0) } ?? []
            self.bytes.withLock { $0 = .success(bytes) }
        case .failure(let error): bytes.withLock { $0 = .failure(error) }
        }
    }
}
