import Catalog
import ChunkStore
import Foundation
import MCFSCore
import Synchronization
import Testing

@testable import MountFS

@Suite("Weight files")
struct ModelFileTests {
    private static let size: UInt64 = 200 << 20

    /// Two shards of 200 MiB and a file that is none.
    private func mounted(_ store: FakeStore) throws -> MountFS {
        var builder = TreeBuilder()
        let source = builder.addSource(SourceDescriptor([:]))
        for name in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "other.bin"] {
            try builder.add(
                TreeEntry(
                    try TreePath("weights/" + name),
                    .file(Content(id: BlobID(origin: name), size: Self.size, source: source, offset: 0)),
                    permissions: 0o644))
        }
        let tree = try builder.build()
        return MountFS(tree: tree, sources: TreeSources(tree, [NamedSource("test")]), store: store)
    }

    private func open(_ name: String, _ fileSystem: MountFS) throws -> Node {
        let folder = try #require(try fileSystem.find("weights"))
        let node = try #require(try fileSystem.find(name, in: folder.node)).node
        try fileSystem.open(node)
        return node
    }

    private func read(_ fileSystem: MountFS, _ node: Node, _ offset: UInt64) throws {
        _ = try fileSystem.read(node, offset: offset, count: 1 << 20) { NullWaiter() }
    }

    /// A header whose one tensor takes the rest of the file.
    private static var header: [UInt8] {
        let text = "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1000000]}}"
        return withUnsafeBytes(of: UInt64(text.utf8.count).littleEndian, Array.init) + Array(text.utf8)
    }

    @Test("the header is read with the first read, and tells where the tensors are")
    func header() throws {
        let store = FakeStore()
        let fileSystem = try mounted(store)
        let name = "model-00001-of-00002.safetensors"
        store.state.withLock { $0.bytes[BlobID(origin: name)] = Self.header }
        let node = try open(name, fileSystem)
        #expect(store.state.withLock { $0.ranges.isEmpty })
        try read(fileSystem, node, 0)
        let start = UInt64(Self.header.count)
        #expect(store.state.withLock { $0.ranges } == [ByteRange(0, 1 << 20), ByteRange(0, 8), ByteRange(0, start)])
        let run = try #require(store.state.withLock { $0.run })
        #expect(run(start) == ByteRange(start, start + 1_000_000))
        try read(fileSystem, node, 1 << 20)
        #expect(store.state.withLock { $0.ranges.count } == 4)
    }

    @Test("near the end of a shard the beginning of the next is fetched, once")
    func nextShard() throws {
        let store = FakeStore()
        let fileSystem = try mounted(store)
        let node = try open("model-00001-of-00002.safetensors", fileSystem)
        try read(fileSystem, node, 0)
        try read(fileSystem, node, 100 << 20)
        #expect(store.state.withLock { $0.expected.isEmpty })
        for offset in stride(from: 150 << 20, to: Self.size, by: 1 << 20) { try read(fileSystem, node, offset) }
        let expected = store.state.withLock { $0.expected }
        #expect(expected.count == 1)
        #expect(expected.first?.id == BlobID(origin: "model-00002-of-00002.safetensors"))
        #expect(expected.first?.range == ByteRange(0, ModelFile.nextShardBytes))
    }

    @Test("the last shard has no next, and other files are read as they are")
    func others() throws {
        let store = FakeStore()
        let fileSystem = try mounted(store)
        for name in ["model-00002-of-00002.safetensors", "other.bin"] {
            let node = try open(name, fileSystem)
            for offset in stride(from: 0, to: Self.size, by: 10 << 20) { try read(fileSystem, node, offset) }
        }
        #expect(store.state.withLock { $0.expected.isEmpty })
        #expect(store.state.withLock { $0.run == nil })
    }

    @Test("a header that cannot be read changes nothing for the reader")
    func failing() throws {
        let store = FakeStore()
        let fileSystem = try mounted(store)
        let name = "model-00001-of-00002.safetensors"
        store.state.withLock { $0.behaviour[BlobID(origin: name)] = .fails(.originUnavailable) }
        let node = try open(name, fileSystem)
        #expect(throws: MCFSError.self) { try read(fileSystem, node, 0) }
        store.state.withLock { $0.behaviour[BlobID(origin: name)] = .miss }
        try read(fileSystem, node, 0)
        for waiter in store.state.withLock({ $0.waiters }) {
            waiter.complete(.failure(MCFSError(.timedOut, "the test says so")))
        }
        #expect(store.state.withLock { $0.run == nil })
    }
}
