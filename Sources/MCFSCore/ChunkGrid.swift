/// The fixed grid on which a blob is fetched: chunk i covers `[i · chunkSize, (i + 1) · chunkSize)`, the last one ends
/// with the blob.
package struct ChunkGrid: Hashable, Sendable {
    /// Bytes.
    package let size: UInt64
    /// Bytes; greater than 0.
    package let chunkSize: UInt64

    package init(size: UInt64, chunkSize: UInt64) {
        precondition(chunkSize > 0, "a chunk has at least one byte")
        self.size = size
        self.chunkSize = chunkSize
    }

    package var chunkCount: Int { Int((size + chunkSize - 1) / chunkSize) }

    package func range(of chunk: Int) -> ByteRange {
        let start = UInt64(chunk) * chunkSize
        return ByteRange(start, min(start + chunkSize, size))
    }

    package func range(of chunks: Range<Int>) -> ByteRange {
        guard !chunks.isEmpty else { return ByteRange(0, 0) }
        return ByteRange(UInt64(chunks.lowerBound) * chunkSize, min(UInt64(chunks.upperBound) * chunkSize, size))
    }

    /// The chunks that hold at least one byte of `range`.
    package func chunks(overlapping range: ByteRange) -> Range<Int> {
        let range = range.clamped(to: ByteRange(0, size))
        guard !range.isEmpty else { return 0..<0 }
        return Int(range.lowerBound / chunkSize)..<Int((range.upperBound - 1) / chunkSize) + 1
    }

    /// The chunks that lie in `range` with all their bytes.
    package func chunks(within range: ByteRange) -> Range<Int> {
        let range = range.clamped(to: ByteRange(0, size))
        guard !range.isEmpty else { return 0..<0 }
        let first = Int((range.lowerBound + chunkSize - 1) / chunkSize)
        let end = range.upperBound == size ? chunkCount : Int(range.upperBound / chunkSize)
        return first..<max(first, end)
    }
}
