import MCFSCore
import Synchronization

/// Cuts the bytes of one range into the pieces they belong to and hands each on as it is whole. Bytes between pieces
/// (headers and padding of a layer, members that are local already) are passed over. Never waits: the memory for what comes was
/// reserved before it was asked for; a stream, which is too long for that, is told to wait when too much of it is on its way to
/// the disk.
final class FillSink: ByteSink, @unchecked Sendable {
    // @unchecked: a source calls `write` never concurrently, and the job's thread looks at the rest after the read.
    private var pieces: [FetchPiece?]
    private var next = 0
    private var position: UInt64
    private var buffer: MemoryBuffer?
    private var filled = 0
    private let pool: BufferPool
    /// Of a stream.
    private let bytesMax: UInt64?
    private let job: FetchJob
    private let backlog = Lock((bytes: UInt64(0), whenDrained: (@Sendable () -> Void)?.none))
    private let store: (FillSink, FetchPiece, MemoryBuffer) -> Void
    /// Bytes that came.
    private(set) var received: UInt64 = 0

    /// - Parameters:
    ///   - bytesMax: bytes that may be on their way to the disk; nil: they were reserved.
    ///   - store: takes a whole piece; calls `stored` when it is done with it.
    init(
        _ job: FetchJob, pool: BufferPool, bytesMax: UInt64?,
        store: @escaping (FillSink, FetchPiece, MemoryBuffer) -> Void
    ) {
        self.pool = pool
        self.job = job
        self.bytesMax = bytesMax
        self.store = store
        pieces = job.pieces
        position = job.range.lowerBound
    }

    var isAbandoned: Bool { job.isAbandoned }

    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        if isAbandoned { throw MCFSError(.cancelled, "nobody wants these bytes any more", isTransient: true) }
        received += UInt64(bytes.count)
        job.group?.receive(bytes.count)
        var rest = bytes
        while !rest.isEmpty, next < pieces.count, let piece = pieces[next] {
            if position < piece.range.lowerBound {
                let gap = min(UInt64(rest.count), piece.range.lowerBound - position)
                advance(&rest, Int(gap))
                continue
            }
            let count = Int(piece.range.count)
            let target = buffer ?? MemoryBuffer(count: count, pool: pool)
            buffer = target
            let part = min(rest.count, count - filled)
            UnsafeMutableRawBufferPointer(rebasing: target.bytes[filled..<filled + part])
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: rest[..<part]))
            filled += part
            advance(&rest, part)
            if filled == count {
                buffer = nil
                filled = 0
                // Lets go of the blob: a stream may have a hundred thousand.
                pieces[next] = nil
                next += 1
                backlog.withLock { $0.bytes += UInt64(count) }
                store(self, piece, target)
            }
        }
    }

    func isFull(whenDrained: @escaping @Sendable () -> Void) -> Bool {
        guard let bytesMax else { return false }
        return backlog.withLock { backlog in
            guard backlog.bytes >= bytesMax else { return false }
            backlog.whenDrained = whenDrained
            return true
        }
    }

    /// A piece is on the disk. From any thread.
    func stored(_ piece: FetchPiece) {
        let whenDrained = backlog.withLock { backlog in
            backlog.bytes -= piece.range.count
            guard backlog.bytes <= (bytesMax ?? 0) / 2 else { return (@Sendable () -> Void)?.none }
            defer { backlog.whenDrained = nil }
            return backlog.whenDrained
        }
        whenDrained?()
    }

    private func advance(_ rest: inout UnsafeRawBufferPointer, _ count: Int) {
        rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        position += UInt64(count)
    }

    /// The pieces that did not come.
    var missing: [FetchPiece] { pieces[next...].compactMap { $0 } }
}
