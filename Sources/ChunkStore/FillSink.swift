import MCFSCore

/// Cuts the bytes of one range into the pieces they belong to and hands each on as it is whole. Bytes between pieces
/// (headers and padding of a layer, members that are local already) are passed over.
final class FillSink: ByteSink, @unchecked Sendable {
    // @unchecked: a source calls `write` never concurrently, and the job's thread looks at the rest after the read.
    private let job: FetchJob
    private var pieces: [FetchPiece?]
    private var next = 0
    private var position: UInt64
    private var buffer: MemoryBuffer?
    private var filled = 0
    private let budget: InFlightBudget
    private let pool: BufferPool
    private let store: (FetchPiece, MemoryBuffer) -> Void
    /// Bytes that came.
    private(set) var received: UInt64 = 0

    /// - Parameter store: takes a whole piece; gives its bytes back to `budget` when they are written.
    init(
        _ job: FetchJob, budget: InFlightBudget, pool: BufferPool, store: @escaping (FetchPiece, MemoryBuffer) -> Void
    ) {
        self.job = job
        self.budget = budget
        self.pool = pool
        self.store = store
        pieces = job.pieces
        position = job.range.lowerBound
    }

    deinit { if let buffer { budget.release(UInt64(buffer.count)) } }

    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        received += UInt64(bytes.count)
        var rest = bytes
        while !rest.isEmpty, next < pieces.count, let piece = pieces[next] {
            if position < piece.range.lowerBound {
                let gap = min(UInt64(rest.count), piece.range.lowerBound - position)
                advance(&rest, Int(gap))
                continue
            }
            let count = Int(piece.range.count)
            let target =
                buffer
                ?? {
                    // Waits while too much is on its way to the disk: that slows the origin down, as it should.
                    budget.take(UInt64(count))
                    return MemoryBuffer(count: count, pool: pool)
                }()
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
                store(piece, target)
            }
        }
    }

    private func advance(_ rest: inout UnsafeRawBufferPointer, _ count: Int) {
        rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        position += UInt64(count)
    }

    /// The pieces that did not come.
    var missing: [FetchPiece] { pieces[next...].compactMap { $0 } }
}

/// Bounds the bytes that came from an origin and are not on disk yet.
final class InFlightBudget: Sendable {
    private let free: Guarded<Int64>

    init(bytes: UInt64) { free = Guarded(Int64(bytes)) }

    /// Waits until there is room. More than the whole budget is granted when nothing else is in flight.
    func take(_ bytes: UInt64) {
        let whole = free.wait { free -> Bool? in
            guard free > 0 else { return nil }
            free -= Int64(bytes)
            return true
        }
        assert(whole == true)
    }

    func release(_ bytes: UInt64) { free.update { $0 += Int64(bytes) } }
}
