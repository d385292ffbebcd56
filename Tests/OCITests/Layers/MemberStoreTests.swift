import Glibc
import MCFSCore
import Synchronization
import Testing

@testable import OCI

@Suite(.timeLimit(.minutes(5))) struct MemberStoreTests {
    private func bytes(_ number: Int) -> [UInt8] { [UInt8](repeating: UInt8(number % 251), count: number * 37 % 5000) }

    @Test("all that is added gets its identity, and the cache what it shall have")
    func identities() throws {
        let contents = LayerFixtures.Contents()
        let store = MemberStore(contents)
        defer { store.end() }
        for number in 0..<500 { try store.add(bytes(number)[...], at: number, isKept: number % 3 == 0) }
        let found = try store.finish().sorted { $0.index < $1.index }
        #expect(found.map(\.index) == Array(0..<500))
        for (index, id) in found { #expect(id == BlobID(Digest.sha256(of: bytes(index)))) }
        let kept = Set(stride(from: 0, to: 500, by: 3).map { BlobID(Digest.sha256(of: bytes($0))) })
        #expect(Set(contents.committed.keys.map { Optional($0) }) == kept)
    }

    @Test("nothing added is nothing found")
    func nothing() throws {
        let store = MemberStore(LayerFixtures.Contents())
        defer { store.end() }
        #expect(try store.finish().isEmpty)
    }

    @Test("a cache that fails after it took a file ends the walk with its error", arguments: [true, false])
    func failing(isFoundAtTheEnd: Bool) throws {
        let store = MemberStore(LayerFixtures.Contents(failure: .commit, code: .noSpace))
        defer { store.end() }
        let error = #expect(throws: MCFSError.self) {
            // Sooner or later the other thread has failed; if not, the end tells.
            if !isFoundAtTheEnd {
                while true {
                    try store.add(bytes(1)[...], at: 0, isKept: true)
                    sched_yield()
                }
            }
            try store.add(bytes(1)[...], at: 0, isKept: true)
            _ = try store.finish()
        }
        #expect(error?.code == .noSpace)
        #expect(throws: MCFSError.self) { _ = try store.finish() }
    }

    @Test("a cache that takes no file leaves it with its identity")
    func refusing() throws {
        let store = MemberStore(LayerFixtures.Contents(failure: .begin, code: .noSpace))
        defer { store.end() }
        try store.add([7, 8, 9], at: 3, isKept: true)
        #expect(try store.finish().map(\.id) == [BlobID(Digest.sha256(of: [7, 8, 9]))])
    }

    @Test("where the other thread is busy and much waits, who adds does the work")
    func fullQueue() throws {
        let gate = Gate()
        let store = MemberStore(gate)
        defer { store.end() }
        try store.add([1], at: 0, isKept: true)
        gate.waitUntilClosed()
        let large = [UInt8](repeating: 2, count: 600 << 10)
        try store.add(large[...], at: 1, isKept: true)
        #expect(gate.threads.isEmpty)
        try store.add(large[...], at: 2, isKept: true)
        #expect(gate.threads == [pthread_self()])
        gate.open()
        #expect(try store.finish().map(\.index).sorted() == [0, 1, 2])
    }

    @Test("what waits at the end is forgotten")
    func ending() throws {
        let gate = Gate()
        let store = MemberStore(gate)
        try store.add([1], at: 0, isKept: true)
        gate.waitUntilClosed()
        for index in 1..<10 { try store.add([2], at: index, isKept: true) }
        store.end()
        gate.open()
        #expect(try store.finish().map(\.index) == [0])
        #expect(gate.threads.count == 0)
    }
}

/// Holds up who brings the first file, until it is opened.
private final class Gate: ContentSink {
    private struct State {
        var isClosed = false
        var isOpen = false
        /// Who brought others.
        var threads: [pthread_t] = []
    }

    private let state = Guarded(State())

    var threads: [pthread_t] { state.withLock { $0.threads } }
    func waitUntilClosed() { state.wait { $0.isClosed ? true : nil } }
    func open() { state.update { $0.isOpen = true } }

    func beginContent(id: BlobID?, size: UInt64) throws(MCFSError) -> any ContentWriter {
        let isFirst = state.update { state in
            if state.isClosed {
                state.threads.append(pthread_self())
                return false
            }
            state.isClosed = true
            return true
        }
        if isFirst { state.wait { $0.isOpen ? true : nil } }
        return try LayerFixtures.Contents().beginContent(id: id, size: size)
    }
}
