internal import ChunkStore
internal import MCFSCore
internal import Synchronization

/// A small file that shows other bytes than are stored: the stored ones are read whole by the first read and rewritten.
final class RewrittenFile: ContentReading {
    private let stored: any ContentReading
    private let storedSize: UInt64
    private let rewrite: @Sendable ([UInt8]) -> [UInt8]
    private let shown = Lock<[UInt8]?>(nil)

    /// - Parameter storedSize: bytes; more than 0.
    init(_ stored: any ContentReading, storedSize: UInt64, _ rewrite: @escaping @Sendable ([UInt8]) -> [UInt8]) {
        self.stored = stored
        self.storedSize = storedSize
        self.rewrite = rewrite
    }

    /// No file on the disk has these bytes.
    var completeFile: OwnedDescriptor? { nil }

    var generation: Int { stored.generation }
    var isStale: Bool { stored.isStale }

    func expect(_ range: ByteRange) { stored.expect(ByteRange(0, storedSize)) }

    func expectRuns(_ run: @escaping @Sendable (UInt64) -> ByteRange?) {}

    func read(_ range: ByteRange, makeWaiter: () -> any ReadWaiter) throws(MCFSError) -> ReadOutcome {
        if let bytes = shown.withLock({ $0 }) { return .region(Self.region(range, of: bytes)) }
        let outcome = try stored.read(ByteRange(0, storedSize)) { Waiter(self, range, makeWaiter()) }
        switch consume outcome {
        case .pending: return .pending
        case .region(let region): return .region(try take(region, range))
        }
    }

    private func take(_ region: borrowing FileRegion, _ range: ByteRange) throws(MCFSError) -> FileRegion {
        guard let bytes = region.withBytes({ Array($0) }) else {
            throw MCFSError(.localIO, "a file of the cache cannot be read")
        }
        let rewritten = rewrite(bytes)
        shown.withLock { $0 = rewritten }
        return Self.region(range, of: rewritten)
    }

    private static func region(_ range: ByteRange, of bytes: [UInt8]) -> FileRegion {
        let end = min(Int(range.upperBound), bytes.count)
        return FileRegion(copying: bytes[min(Int(range.lowerBound), end)..<end])
    }

    private final class Waiter: ReadWaiter {
        private let file: RewrittenFile
        private let range: ByteRange
        private let reader: any ReadWaiter

        init(_ file: RewrittenFile, _ range: ByteRange, _ reader: any ReadWaiter) {
            self.file = file
            self.range = range
            self.reader = reader
        }

        func complete(_ result: consuming Result<FileRegion, MCFSError>) {
            switch consume result {
            case .failure(let error): reader.complete(.failure(error))
            case .success(let region):
                do throws(MCFSError) { reader.complete(.success(try file.take(region, range))) } catch {
                    reader.complete(.failure(error))
                }
            }
        }
    }
}
