import MCFSCore
import Testing

@testable import ChunkStore

@Suite("How far a file is read ahead")
struct ReadAheadTests {
    private static let size: UInt64 = 4 << 30
    private static let step: UInt64 = 1 << 20

    private func read(_ ahead: inout ReadAhead, _ offset: UInt64, size: UInt64 = Self.size) -> ReadAhead.Request? {
        ahead.advance(ByteRange(offset, min(offset + Self.step, size)), size: size)
    }

    @Test("one read is no stream, wherever it is")
    func first() {
        var ahead = ReadAhead()
        #expect(read(&ahead, 0) == nil)
        #expect(read(&ahead, 1 << 30) == nil)
        #expect(read(&ahead, 2 << 30) == nil)
    }

    @Test("random reads never fetch ahead")
    func random() {
        var ahead = ReadAhead()
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<1000 {
            // Places far apart from each other: 64 MiB.
            #expect(read(&ahead, UInt64.random(in: 0..<64, using: &generator) * (64 << 20)) == nil)
        }
    }

    @Test(
        "a sequential reader gets a window that grows to its bound, in short ranges first, each byte once and no gap")
    func sequential() {
        var ahead = ReadAhead()
        var asked = 2 * Self.step
        var windows: [UInt64] = []
        for offset in stride(from: 0, to: Self.size, by: Int(Self.step)) {
            guard let request = read(&ahead, offset) else { continue }
            #expect(request.range.lowerBound == asked)
            asked = request.range.upperBound
            windows.append(asked - (offset + Self.step))
            #expect(request.rangeBytes >= Self.step && request.rangeBytes <= FetchQueue.rangeBytesMax)
            #expect(request.range.count % request.rangeBytes == 0 || asked == Self.size)
        }
        #expect(asked == Self.size)
        #expect(windows.first == ReadAhead.windowMin)
        #expect(windows.max() == ReadAhead.windowMax)
        #expect(zip(windows, windows.dropFirst()).allSatisfy { $1 <= $0 * ReadAhead.growth + FetchQueue.rangeBytesMax })
    }

    @Test("requests of the kernel's read-ahead that come out of order are one stream, and ask for nothing twice")
    func reordered() {
        var ahead = ReadAhead()
        var asked: UInt64 = 0
        for pair in stride(from: 0, to: UInt64(256 << 20), by: Int(2 * Self.step)) {
            for offset in [pair + Self.step, pair] {
                guard let request = read(&ahead, offset) else { continue }
                #expect(request.range.lowerBound >= asked)
                asked = request.range.upperBound
            }
        }
        #expect(asked >= 256 << 20)
    }

    @Test("readers far apart each have a window of their own")
    func several() {
        var ahead = ReadAhead()
        var asked: [UInt64: UInt64] = [:]
        for offset in stride(from: 0, to: UInt64(32 << 20), by: Int(Self.step)) {
            for reader in 0..<UInt64(ReadAhead.streamsMax) {
                let start = reader * (256 << 20)
                if let request = read(&ahead, start + offset) { asked[reader] = request.range.upperBound - start }
            }
        }
        #expect(asked.count == ReadAhead.streamsMax)
        #expect(asked.values.allSatisfy { $0 >= 40 << 20 })
    }

    @Test("the window stops at the end of the file")
    func end() {
        var ahead = ReadAhead()
        let size: UInt64 = (10 << 20) + 17
        var asked = 2 * Self.step
        for offset in stride(from: 0, to: size, by: Int(Self.step)) {
            guard let request = read(&ahead, offset, size: size) else { continue }
            #expect(request.range.lowerBound == asked)
            asked = request.range.upperBound
        }
        #expect(asked == size)
    }

    @Test("small reads that follow each other are a stream only once they came far")
    func smallReads() {
        var ahead = ReadAhead()
        for offset in stride(from: 0, to: ReadAhead.streamMin - 65536, by: 65536) {
            #expect(ahead.advance(ByteRange(offset, offset + 65536), size: Self.size) == nil)
        }
        #expect(ahead.advance(ByteRange(ReadAhead.streamMin - 65536, ReadAhead.streamMin), size: Self.size) != nil)
    }

    @Test("who goes to the beginning of a run will read it to its end; who goes to its middle may not")
    func runs() {
        let run = ByteRange(100 << 20, 140 << 20)
        var ahead = ReadAhead()
        ahead.run = { run.contains(ByteRange($0, $0 + 1)) ? run : nil }
        #expect(read(&ahead, 10 << 20) == nil)
        #expect(read(&ahead, 120 << 20) == nil)
        let request = read(&ahead, run.lowerBound)
        #expect(request?.range.lowerBound == run.lowerBound + Self.step)
        #expect((request?.range.upperBound ?? 0) >= 136 << 20)
        // Mapped pages are read with what lies before them.
        var mapped = ReadAhead()
        mapped.run = ahead.run
        #expect(read(&mapped, run.lowerBound - Self.step / 2) != nil)
        // A run that the read holds whole needs nothing more.
        var small = ReadAhead()
        small.run = { ByteRange($0 / 4096 * 4096, $0 / 4096 * 4096 + 4096) }
        #expect(read(&small, 1 << 30) == nil)
    }

    @Test("a window is never larger than its bound", arguments: [0, 1 << 20, 6 << 20] as [UInt64])
    func bounded(windowMax: UInt64) {
        var ahead = ReadAhead(windowMax: windowMax)
        for offset in stride(from: 0, to: UInt64(64 << 20), by: Int(Self.step)) {
            guard let request = read(&ahead, offset) else { continue }
            #expect(request.range.upperBound <= offset + Self.step + windowMax)
        }
    }
}
