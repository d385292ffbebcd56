internal import MCFSCore
internal import Synchronization
internal import Testing

@testable internal import OCI

@Suite("walking a tar by ranges", .timeLimit(.minutes(5)))
struct TarScanTests {
    @Test("any window finds the same members and the right bytes")
    func windows() throws {
        for seed in 0..<400 as Range<UInt64> {
            var random = LayerFixtures.Random(seed: seed)
            var files: [String: [UInt8]] = [:]
            var names: [String] = []
            var writer = TarWriter()
            for index in 0..<Int.random(in: 0...30, using: &random) {
                let name = "f\(index)"
                let data = LayerFixtures.pattern(Int.random(in: 0...3000, using: &random), seed: seed &+ UInt64(index))
                if Bool.random(using: &random) {
                    writer.add(pax: [("path", name), ("comment", String(repeating: "c", count: index * 50))])
                    writer.add("header", data)
                } else {
                    writer.add(name, data)
                }
                names.append(name)
                files[name] = data
            }
            if Bool.random(using: &random) { writer.end() }
            let tar = writer.bytes

            var limits = TarScan.Limits()
            limits.windowBytesMin = Int.random(in: 1...2000, using: &random)
            limits.windowBytesMax = limits.windowBytesMin + Int.random(in: 0...5000, using: &random)
            limits.hopBytesMin = Int.random(in: 0...1500, using: &random)
            limits.hopBytesStep = Int.random(in: 0...100, using: &random)
            limits.hopBytesMax = limits.hopBytesMin + Int.random(in: 0...1000, using: &random)
            let source = LayerFixtures.Source(tar)
            let first = Array(tar.prefix(Int.random(in: 0...2000, using: &random)))
            var scan = TarScan(
                source, size: source.size, name: "tar", deadline: LayerFixtures.deadline, first: first, limits: limits)
            var found: [String] = []
            while let member = try scan.next() {
                let name = String(decoding: member.name, as: UTF8.self)
                found.append(name)
                let end = Int(member.offset + member.size)
                #expect(Array(tar[Int(member.offset)..<end]) == files[name], "seed \(seed)")
                // Not every owner asks for data.
                if seed % 4 != 0, let data = try scan.data(of: member) {
                    #expect(Array(data) == files[name], "seed \(seed)")
                }
            }
            #expect(found == names, "seed \(seed)")
            // No byte twice.
            var end = UInt64(first.count)
            for request in source.requests {
                #expect(request.lowerBound >= end && !request.isEmpty, "seed \(seed)")
                end = request.upperBound
            }
        }
    }

    @Test("a source that gives too many or too few bytes is refused")
    func wrongCounts() throws {
        final class Liar: ByteSource {
            let name = "liar"
            let hasRandomAccess = true
            let delta: Int
            init(_ delta: Int) { self.delta = delta }
            func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
                let bytes = [UInt8](repeating: 0, count: Int(range.count) + delta)
                try bytes.withUnsafeBufferPointer { (buffer) throws(MCFSError) in
                    try sink.write(UnsafeRawBufferPointer(buffer))
                }
            }
        }
        for delta in [-1, 1] {
            let found = #expect(throws: MCFSError.self) {
                try TarReader.entries(of: Liar(delta), size: 1024, deadline: LayerFixtures.deadline)
            }
            #expect(found?.code == .originUnavailable)
        }
    }
}

@Suite("the queue between two threads", .timeLimit(.minutes(5)))
struct ByteQueueTests {
    private func write(_ count: Int, to queue: ByteQueue) throws {
        try [UInt8](repeating: 7, count: count).withUnsafeBytes { bytes in try queue.write(bytes) }
    }

    @Test("a full queue says so, and that there is room again, once")
    func bound() throws {
        let queue = ByteQueue(name: "queue", bytesMax: 10, deadline: LayerFixtures.deadline)
        let calls = Lock(0)
        try write(9, to: queue)
        #expect(!queue.isFull { Issue.record("it was not full") })
        try write(100, to: queue)
        #expect(queue.isFull { calls.withLock { $0 += 1 } })
        #expect(try queue.next()?.map(\.count) == [9, 100])
        #expect(calls.withLock { $0 } == 1)
        #expect(!queue.isFull { Issue.record("it was not full") })
        queue.finish(.success(()))
        #expect(try queue.next() == nil)
        #expect(calls.withLock { $0 } == 1)
    }

    @Test("a source that delivers on its own thread waits for room, and the deadline ends the wait")
    func deadline() throws {
        let queue = ByteQueue(name: "queue", bytesMax: 10, deadline: LayerFixtures.deadline)
        try write(10, to: queue)
        let error = #expect(throws: MCFSError.self) {
            try queue.waitForRoom(until: Deadline(after: .milliseconds(20)), "the file")
        }
        #expect(error?.code == .timedOut)
        let piece = [UInt8](repeating: 1, count: 1 << 20)
        var received = 0
        try ByteStream.read(
            LayerFixtures.Source(Array(repeating: piece, count: 20).flatMap { $0 }), ByteRange(0, 20 << 20),
            deadline: LayerFixtures.deadline
        ) { (piece) throws(MCFSError) in
            received += piece.count
            return true
        }
        #expect(received == 20 << 20)
    }

    @Test("a reader that gives up frees a writer that waits for room")
    func givesUp() throws {
        let queue = ByteQueue(name: "queue", bytesMax: 10, deadline: LayerFixtures.deadline)
        try write(10, to: queue)
        let calls = Lock(0)
        #expect(queue.isFull { calls.withLock { $0 += 1 } })
        queue.cancel()
        #expect(calls.withLock { $0 } == 1)
        #expect(!queue.isFull { Issue.record("it was not full") })
    }

    @Test("what was written before a failure is read before it")
    func failure() throws {
        let queue = ByteQueue(name: "queue", bytesMax: 10, deadline: LayerFixtures.deadline)
        try [UInt8(1)].withUnsafeBytes { bytes in try queue.write(bytes) }
        queue.finish(.failure(MCFSError(.changed, "x")))
        #expect(try queue.next() == [[1]])
        #expect(throws: MCFSError.self) { try queue.next() }
    }

    @Test("a reader that gave up ends the writer")
    func cancelled() throws {
        let queue = ByteQueue(name: "queue", bytesMax: 10, deadline: LayerFixtures.deadline)
        queue.cancel()
        let error = #expect(throws: MCFSError.self) {
            try [UInt8(1)].withUnsafeBytes { bytes in try queue.write(bytes) }
        }
        #expect(error?.code == .cancelled)
    }
}
