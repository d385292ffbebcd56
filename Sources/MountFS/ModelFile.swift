internal import ChunkStore
internal import MCFSCore
internal import ModelFormats
internal import Synchronization

/// A weight file that is being fetched: guesses what its reader wants next.
///
/// Its header, once it is read, tells where tensors begin: a reader that goes to the beginning of one will read it to its
/// end. A reader that nears the end of one shard of a model will go on with the next. A wrong guess costs bytes, a bounded
/// number; nothing waits for it, and what it fails at is seen by the read that comes, if one does.
final class ModelFile: ContentReading {
    /// How much of the next shard is fetched ahead, in bytes: its header, and what covers the start of its own read-ahead.
    static let nextShardBytes: UInt64 = 32 << 20
    /// How near the end of a shard its reader must be.
    private static let endBytes: UInt64 = 64 << 20

    private let file: any ContentReading
    private let format: ModelFormat
    private let size: UInt64
    private let next: @Sendable () -> (file: any ContentReading, size: UInt64)?
    private let hasBegun = Atomic<Bool>(false)
    private let hasNearedEnd = Atomic<Bool>(false)

    /// - Parameters:
    ///   - size: bytes.
    ///   - next: opens the shard behind this one; nil where there is none. Called at most once.
    init(
        _ file: any ContentReading, _ format: ModelFormat, size: UInt64,
        next: @escaping @Sendable () -> (file: any ContentReading, size: UInt64)?
    ) {
        self.file = file
        self.format = format
        self.size = size
        self.next = next
    }

    var completeFile: OwnedDescriptor? { file.completeFile }
    var generation: Int { file.generation }
    var isStale: Bool { file.isStale }

    func expect(_ range: ByteRange) { file.expect(range) }

    func expectRuns(_ run: @escaping @Sendable (UInt64) -> ByteRange?) { file.expectRuns(run) }

    func read(_ range: ByteRange, makeWaiter: () -> any ReadWaiter) throws(MCFSError) -> ReadOutcome {
        let outcome = try file.read(range, makeWaiter: makeWaiter)
        // After the reader's own request, which goes first.
        if !hasBegun.load(ordering: .relaxed), !hasBegun.exchange(true, ordering: .relaxed) {
            HeaderReading(file, format, size: size).read(format.firstBytes(fileSize: size))
        }
        if range.upperBound >= max(size / 2, size - min(size, Self.endBytes)), range.lowerBound > 0,
            !hasNearedEnd.load(ordering: .relaxed), !hasNearedEnd.exchange(true, ordering: .relaxed),
            let (shard, size) = next()
        {
            shard.expect(ByteRange(0, min(size, Self.nextShardBytes)))
        }
        return outcome
    }
}

/// Reads a header as any reader would, on whatever thread its bytes come, and tells the file where its tensors are.
private final class HeaderReading: ReadWaiter {
    private let file: any ContentReading
    private let format: ModelFormat
    private let size: UInt64

    init(_ file: any ContentReading, _ format: ModelFormat, size: UInt64) {
        self.file = file
        self.format = format
        self.size = size
    }

    func read(_ count: UInt64) {
        guard count > 0 else { return }
        do throws(MCFSError) {
            switch try file.read(ByteRange(0, count), makeWaiter: { self }) {
            case .region(let region): take(region)
            case .pending: break
            }
        } catch {
            // The reader will see it too.
        }
    }

    func complete(_ result: consuming Result<FileRegion, MCFSError>) {
        if case .success(let region) = consume result { take(region) }
    }

    private func take(_ region: borrowing FileRegion) {
        let reading = region.withBytes { format.read($0, fileSize: size) }
        switch reading {
        case .layout(let layout): file.expectRuns { layout.tensor(holding: $0) }
        case .needs(let count): read(count)
        case .unknown, nil: break
        }
    }
}
