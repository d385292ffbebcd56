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

    // Divided, not added to: sizes come from origins.
    package var chunkCount: Int { Int(size / chunkSize) + (size % chunkSize == 0 ? 0 : 1) }

    package func range(of chunk: Int) -> ByteRange {
        let start = UInt64(chunk) * chunkSize
        return ByteRange(start, start + min(chunkSize, size - start))
    }

    package func range(of chunks: Range<Int>) -> ByteRange {
        guard !chunks.isEmpty else { return ByteRange(0, 0) }
        return ByteRange(range(of: chunks.lowerBound).lowerBound, range(of: chunks.upperBound - 1).upperBound)
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
        let first = Int(range.lowerBound / chunkSize) + (range.lowerBound % chunkSize == 0 ? 0 : 1)
        let end = range.upperBound == size ? chunkCount : Int(range.upperBound / chunkSize)
        return first..<max(first, end)
    }

    /// Bytes of the chunks in a set.
    package func byteCount(of chunks: Bitmap) -> UInt64 {
        guard chunks.population > 0 else { return 0 }
        let last = chunkCount - 1
        let sizeOfLast = chunks[last] ? range(of: last).count : chunkSize
        return UInt64(chunks.population - 1) * chunkSize + sizeOfLast
    }
}
