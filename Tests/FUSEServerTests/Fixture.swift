import CFUSE
import Catalog
import Foundation
import Glibc
import MCFSCore
import MountFS
import Synchronization

@testable import ChunkStore
@testable import FUSEServer

/// A mount of the test's own process. Only other processes touch the mountpoint: a process that reads its own mount can
/// wait for itself.
final class Fixture: Sendable {
    let store = FakeStore()
    let fileSystem: MountFS
    let session: MountSession
    let directory: String
    let mountpoint: String
    private let endings = AsyncStream<Void>.makeStream()

    /// The files of every fixture: name and size. What reading does follows from the name (`FakeStore`).
    static let files: [(name: String, size: Int)] = [
        ("a.txt", 10), ("file.bin", 5_000_123), ("memory.bin", 2_500_001), ("late.bin", 3_000_017),
        ("broken.bin", 300_000),
        ("late-broken.bin", 300_000), ("hang.bin", 4_000_000), ("stuck.bin", 300_000),
    ]

    static var canMount: Bool { geteuid() == 0 && access("/dev/fuse", R_OK | W_OK) == 0 }

    static func fileSystem(_ store: FakeStore) throws -> MountFS {
        var builder = TreeBuilder()
        let source = builder.addSource(SourceDescriptor([:]))
        func add(_ path: String, _ kind: TreeEntry.Kind, _ permissions: UInt16 = 0o644) throws {
            try builder.add(
                TreeEntry(
                    try TreePath(path), kind, permissions: permissions, modified: Timestamp(seconds: 1_700_000_000)))
        }
        for (name, size) in files {
            let id = BlobID(origin: name)
            store.names.withLock { $0[id] = name }
            try add(name, .file(Content(id: id, size: UInt64(size), source: source, offset: 0)))
        }
        try add("hard.txt", .hardLink(try TreePath("a.txt")))
        try add("link.txt", .symlink(target: Array("a.txt".utf8)))
        try add("many", .directory, 0o755)
        for index in 0..<1200 {
            let id = BlobID(origin: "many", String(index))
            store.names.withLock { $0[id] = "many" }
            let name = String(repeating: "n", count: 60) + String(index)
            try add("many/\(name)", .file(Content(id: id, size: UInt64(index % 7), source: source, offset: 0)))
        }
        try add("many/deep/er/est", .symlink(target: Array("../../..".utf8)))
        let tree = try builder.build()
        return MountFS(tree: tree, sources: TreeSources(tree, [NullSource()]), store: store, origin: "test:origin")
    }

    init(threads: Int = 8, passthrough: Bool = false) throws {
        var template = Array("/tmp/mcfs-fuse-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw MCFSError(localIO: "make a directory", .current) }
        directory = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        mountpoint = directory + "/mnt"
        mkdir(mountpoint, 0o755)
        fileSystem = try Self.fileSystem(store)
        var options = MountSession.Options()
        options.threadsMax = threads
        options.sourceName = "test,source"
        if passthrough { options.passthroughSample = try temporaryFile() }
        let ending = endings.continuation
        session = try MountSession(fileSystem, at: mountpoint, options: options) {
            ending.yield()
            ending.finish()
        }
    }

    /// Runs `body` and takes everything away again, whatever it does.
    static func with(
        threads: Int = 8, passthrough: Bool = false, _ body: (Fixture) async throws -> Void
    ) async throws {
        let fixture = try Fixture(threads: threads, passthrough: passthrough)
        defer { fixture.clear() }
        try await body(fixture)
    }

    private func clear() {
        store.letGo()
        try? session.unmount(force: true)
        umount2(mountpoint, CInt(MNT_DETACH))
        store.failWaiting()
        rmdir(mountpoint)
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// Waits until the session says that it ended.
    func ended() async {
        for await _ in endings.stream {}
    }

    /// What the files hold, as a plain directory to compare with.
    func writeReference(_ names: [String]) throws -> String {
        let reference = directory + "/reference"
        try FileManager.default.createDirectory(atPath: reference, withIntermediateDirectories: true)
        for (name, size) in Self.files where names.contains(name) {
            try Data(FakeStore.bytes(ByteRange(0, UInt64(size)))).write(
                to: URL(fileURLWithPath: reference + "/" + name))
        }
        return reference
    }

    /// Runs a shell script in the mountpoint's parent, at most 30 s. $M is the mountpoint.
    func shell(_ script: String) async throws -> (status: Int32, output: String) {
        let child = try Child([
            "timeout", "-s", "KILL", "30", "sh", "-c", "M=\(mountpoint); cd \(directory); " + script,
        ])
        return await child.result()
    }
}

/// A process whose standard output and error are collected.
final class Child: Sendable {
    let pid: pid_t
    private let output: OwnedDescriptor

    init(_ arguments: [String]) throws {
        output = try temporaryFile()
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, output.rawValue, 1)
        posix_spawn_file_actions_adddup2(&actions, output.rawValue, 2)
        var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { (argument: String) in strdup(argument) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        var child = pid_t()
        let result = withChildAttributes {
            posix_spawnp(&child, arguments[0], &actions, $0, &pointers, environ)
        }
        guard result == 0 else { throw MCFSError(localIO: "start \(arguments)", Errno(rawValue: result)) }
        pid = child
    }

    /// Waits for its end. Once only. A status of 128 + n: ended by signal n.
    func result() async -> (status: Int32, output: String) {
        await withCheckedContinuation { continuation in
            Thread.detachNewThread { [pid, output] in
                var status: Int32 = 0
                waitpid(pid, &status, 0)
                let code = status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f)
                var bytes = [UInt8](repeating: 0, count: Int((try? output.status().st_size) ?? 0))
                _ = bytes.withUnsafeMutableBytes { try? output.read(into: $0, at: 0) }
                continuation.resume(returning: (code, String(decoding: bytes, as: UTF8.self)))
            }
        }
    }
}

final class NullSource: ByteSource {
    let name = "test source"
    let hasRandomAccess = true
    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        throw MCFSError(.unsupported, "a test reads through the store")
    }
}

/// Gives bytes at once from a file or memory, later from another thread, or never, by the file's name.
final class FakeStore: ContentStore {
    let names = Lock<[BlobID: String]>([:])
    let reads = Atomic<Int>(0)
    /// Whether `file.bin` counts as complete.
    let hasComplete = Atomic<Bool>(false)
    private let plain = Lock<OwnedDescriptor?>(nil)
    private let waiting = Lock<[(waiter: any ReadWaiter, range: ByteRange)]>([])
    private let arrivals = AsyncStream<Void>.makeStream()

    /// Byte i of every file is i modulo 251.
    static func bytes(_ range: ByteRange) -> [UInt8] { (range.lowerBound..<range.upperBound).map { UInt8($0 % 251) } }

    /// Opening `stuck.bin` blocks its thread until `letGo`.
    private let stuck = Guarded((waiting: 0, areFree: false))

    func openContent(_ content: FileContent) throws(MCFSError) -> any ContentReading {
        let name = names.withLock { $0[content.id] } ?? ""
        if name == "stuck.bin" {
            stuck.update { $0.waiting += 1 }
            stuck.wait { $0.areFree ? true : nil }
        }
        return try FakeFile(name: name, size: content.size, store: self)
    }

    /// Waits until so many threads are stuck.
    func stuckThreads(_ count: Int) { stuck.wait { $0.waiting >= count ? true : nil } }

    func letGo() { stuck.update { $0.areFree = true } }

    func hasUncertainPages(of id: BlobID, size: UInt64) -> Bool { false }
    func localBytes(of id: BlobID, size: UInt64) -> UInt64 { size }

    func noteUse(of id: BlobID, size: UInt64) {}

    /// A file with the bytes of `file.bin`, the same for every open.
    func plainFile(size: UInt64) throws(MCFSError) -> OwnedDescriptor {
        try plain.withLock { plain throws(MCFSError) in
            if let plain { return plain }
            let made = try temporaryFile()
            FakeStore.bytes(ByteRange(0, size)).withUnsafeBytes { try? made.write($0, at: 0) }
            plain = made
            return made
        }
    }

    func hang(_ waiter: any ReadWaiter, _ range: ByteRange) {
        waiting.withLock { $0.append((waiter, range)) }
        arrivals.continuation.yield()
    }

    /// Waits until a read of `hang.bin` is here.
    func hangingRead() async {
        for await _ in arrivals.stream { return }
    }

    /// Gives what hangs its bytes.
    func answerWaiting() {
        for (waiter, range) in waiting.withLock({ $0 }) { waiter.complete(.success(Memory(range).region)) }
    }

    /// Completes what hangs, long after somebody else answered: must do nothing.
    func failWaiting() {
        for (waiter, _) in waiting.withLock({ $0 }) { waiter.complete(.failure(MCFSError(.timedOut, "too late"))) }
    }
}

final class FakeFile: ContentReading {
    private let name: String
    private let store: FakeStore
    private let file: OwnedDescriptor?

    init(name: String, size: UInt64, store: FakeStore) throws(MCFSError) {
        self.name = name
        self.store = store
        guard name == "file.bin" else {
            file = nil
            return
        }
        file = try store.plainFile(size: size)
    }

    func expect(_ range: ByteRange) {}
    func expectRuns(_ run: @escaping @Sendable (UInt64) -> ByteRange?) {}

    var generation: Int { 0 }
    var isStale: Bool { false }
    var completeFile: OwnedDescriptor? { store.hasComplete.load(ordering: .relaxed) ? file : nil }

    func read(_ range: ByteRange, makeWaiter: () -> any ReadWaiter) throws(MCFSError) -> ReadOutcome {
        store.reads.wrappingAdd(1, ordering: .relaxed)
        switch name {
        case "file.bin":
            guard let file else { throw MCFSError(.failed, "no file") }
            return .region(
                FileRegion(
                    storage: .file(descriptor: file.rawValue, offset: range.lowerBound), count: Int(range.count),
                    owner: file))
        case "late.bin":
            let waiter = makeWaiter()
            Thread.detachNewThread { waiter.complete(.success(Memory(range).region)) }
            return .pending
        case "late-broken.bin":
            let waiter = makeWaiter()
            Thread.detachNewThread { waiter.complete(.failure(MCFSError(.corrupt, "the digest does not match"))) }
            return .pending
        case "hang.bin":
            store.hang(makeWaiter(), range)
            return .pending
        case "broken.bin": throw MCFSError(.originUnavailable, "the origin is gone")
        default: return .region(Memory(range).region)
        }
    }
}

// @unchecked: written in `init` only.
final class Memory: @unchecked Sendable {
    private let buffer: UnsafeMutableRawBufferPointer

    init(_ range: ByteRange) {
        buffer = .allocate(byteCount: Int(range.count), alignment: 1)
        buffer.copyBytes(from: FakeStore.bytes(range))
    }

    deinit { buffer.deallocate() }

    var region: FileRegion {
        FileRegion(storage: .memory(UnsafeRawBufferPointer(buffer)), count: buffer.count, owner: self)
    }
}

/// A file without a name.
func temporaryFile() throws(MCFSError) -> OwnedDescriptor {
    var template = Array("/tmp/mcfs-fuse-XXXXXX".utf8CString)
    let descriptor = mkstemp(&template)
    guard descriptor >= 0 else { throw MCFSError(localIO: "make a temporary file", .current) }
    unlink(template)
    return OwnedDescriptor(owning: descriptor)
}
