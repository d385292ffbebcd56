import Catalog
import Glibc
import MCFSCore
import MountFS
import Synchronization

@testable import ChunkStore

/// A source that is only a name.
final class NamedSource: ByteSource {
    let name: String
    let hasRandomAccess = true
    init(_ name: String) { self.name = name }
    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        throw MCFSError(.unsupported, "a test reads through the store")
    }
}

/// Answers from memory, or as it is told to.
final class FakeStore: ContentStore {
    enum Behaviour: Sendable {
        case hit
        case miss
        case fails(MCFSError.Code)
    }

    struct State {
        var behaviour: [BlobID: Behaviour] = [:]
        var opened: [BlobID] = []
        /// As `noteUse` was told.
        var used: [BlobID] = []
        var ranges: [ByteRange] = []
        var waiters: [any ReadWaiter] = []
        var expected: [(id: BlobID, range: ByteRange)] = []
        var run: (@Sendable (UInt64) -> ByteRange?)?
        /// What reads give instead of the pattern.
        var bytes: [BlobID: [UInt8]] = [:]
    }

    let state = Lock(State())

    func openContent(_ content: FileContent) throws(MCFSError) -> any ContentReading {
        state.withLock { $0.opened.append(content.id) }
        return FakeFile(content: content, store: self)
    }

    func hasUncertainPages(of id: BlobID, size: UInt64) -> Bool { false }
    func localBytes(of id: BlobID, size: UInt64) -> UInt64 { size / 2 }

    func noteUse(of id: BlobID, size: UInt64) { state.withLock { $0.used.append(id) } }
}

final class FakeFile: ContentReading {
    let content: FileContent
    let store: FakeStore

    init(content: FileContent, store: FakeStore) {
        self.content = content
        self.store = store
    }

    func expect(_ range: ByteRange) { store.state.withLock { $0.expected.append((content.id, range)) } }
    func expectRuns(_ run: @escaping @Sendable (UInt64) -> ByteRange?) { store.state.withLock { $0.run = run } }

    var completeFile: OwnedDescriptor? { nil }
    var generation: Int { 0 }
    var isStale: Bool { false }

    func read(_ range: ByteRange, makeWaiter: () -> any ReadWaiter) throws(MCFSError) -> ReadOutcome {
        let behaviour = store.state.withLock { state in
            state.ranges.append(range)
            return state.behaviour[content.id] ?? .hit
        }
        switch behaviour {
        case .hit:
            let bytes = store.state.withLock { $0.bytes[content.id] }
            return .region(Bytes(range, of: bytes).region)
        case .miss:
            let waiter = makeWaiter()
            store.state.withLock { $0.waiters.append(waiter) }
            return .pending
        case .fails(let code): throw MCFSError(code, "the test says so")
        }
    }
}

/// Byte i of every file of the tests is i modulo 251.
final class Bytes: @unchecked Sendable {
    // @unchecked: written in `init` only.
    let buffer: UnsafeMutableRawBufferPointer

    /// - Parameter bytes: the file's first; behind them come zeros.
    init(_ range: ByteRange, of bytes: [UInt8]? = nil) {
        buffer = .allocate(byteCount: Int(range.count), alignment: 1)
        for index in buffer.indices {
            let offset = range.lowerBound + UInt64(index)
            buffer[index] = bytes.map { offset < $0.count ? $0[Int(offset)] : 0 } ?? UInt8(offset % 251)
        }
    }

    deinit { buffer.deallocate() }

    var region: FileRegion {
        FileRegion(storage: .memory(UnsafeRawBufferPointer(buffer)), count: buffer.count, owner: self)
    }
}

final class NullWaiter: ReadWaiter {
    func complete(_ result: consuming Result<FileRegion, MCFSError>) {}
}

extension MountFS {
    func find(_ name: String, in directory: Node = .root) throws(Errno) -> NodeAttributes? {
        let result = Array(name.utf8).withUnsafeBytes { bytes -> Result<NodeAttributes?, Errno> in
            do throws(Errno) { return .success(try files.lookup(bytes, in: directory)) } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    @discardableResult
    func open(_ node: Node, flags: CInt = O_RDONLY) throws(FileError) -> Opened {
        var opened = Opened.empty
        try files.open(node, flags: flags, copy: nil, by: .nobody) { opened = $0 }
        return opened
    }

    func list(
        _ directory: Node, from position: UInt64, _ body: (UnsafeRawBufferPointer, DirectoryEntry) -> Bool
    ) throws(Errno) {
        try files.list(0, directory, from: position, withAttributes: true, body)
    }

    func names(_ directory: Node, from position: UInt64 = 0, max: Int = .max) throws(Errno) -> (
        [String], next: UInt64
    ) {
        var names: [String] = []
        var next = position
        try list(directory, from: position) { name, entry in
            if names.count == max { return false }
            names.append(String(decoding: name, as: UTF8.self))
            next = entry.nextPosition
            return true
        }
        return (names, next)
    }

    /// As text; nil where the node does not have it.
    func value(of attribute: ExtendedAttribute, _ node: Node) throws(Errno) -> String? {
        do throws(Errno) {
            return String(
                decoding: try files.extendedAttribute(Array(attribute.rawValue.utf8), of: node), as: UTF8.self)
        } catch {
            if error.rawValue == ENODATA { return nil }
            throw error
        }
    }
}
