import MCFSCore

/// A read that waits for chunks. Belongs to a blob; touched under the blob's lock only, until it is taken out.
final class PendingRead: @unchecked Sendable {
    // @unchecked: see above; whoever took it out of the blob's list owns it alone.
    let range: ByteRange
    let waiter: any ReadWaiter
    let deadline: Deadline
    private let began = ContinuousClock.now
    let content: FileContent
    /// Keeps the blob's state while this waits.
    let use: BlobUse
    /// Chunks not there yet.
    var missing: Set<Int>
    /// Whether only the digest is missing.
    var awaitsVerdict = false
    /// Holds what the cache could not keep; nil where everything is in the file.
    var memory: MemoryBuffer?
    /// Chunks that were taken into memory.
    private(set) var inMemory: Set<Int> = []
    private let chunks: Range<Int>

    /// The chunks to be read from the file once all are there.
    var fromFile: [Int] { chunks.filter { !inMemory.contains($0) } }

    init(
        _ range: ByteRange, missing: Set<Int>, waiter: any ReadWaiter, deadline: Deadline, content: FileContent,
        use: BlobUse
    ) {
        self.range = range
        chunks = use.blob.grid.chunks(overlapping: range)
        self.missing = missing
        self.waiter = waiter
        self.deadline = deadline
        self.content = content
        self.use = use
    }

    func hasWaited(atLeast duration: Duration) -> Bool { ContinuousClock.now - began >= duration }

    /// Forgets what was taken into memory.
    func dropMemory() {
        memory = nil
        inMemory = []
    }

    /// Takes the part of a chunk that this read asked for into memory.
    func take(_ index: Int, _ bytes: UnsafeRawBufferPointer) {
        let chunk = use.blob.grid.range(of: index)
        missing.remove(index)
        inMemory.insert(index)
        let buffer = memory ?? MemoryBuffer(count: Int(range.count))
        memory = buffer
        let part = range.clamped(to: chunk)
        guard !part.isEmpty else { return }
        let from = UnsafeRawBufferPointer(
            rebasing: bytes[Int(part.lowerBound - chunk.lowerBound)...].prefix(Int(part.count)))
        UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[Int(part.lowerBound - range.lowerBound)...]).copyMemory(
            from: from)
    }
}
