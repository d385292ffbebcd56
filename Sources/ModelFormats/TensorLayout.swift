package import MCFSCore

/// Where the tensors of a weight file lie: what a reader that begins with one will read to its end.
package struct TensorLayout: Sendable, Equatable {
    /// Of more tensors than this no layout is made: they are too small to be worth one.
    package static let tensorsMax = 1 << 20

    /// Where tensors begin in the file, ascending and distinct. What is before the first is the header.
    private let starts: [UInt64]
    private let end: UInt64

    /// - Parameters:
    ///   - ranges: of the tensors in the file, in any order; empty ones and what they share are no matter.
    ///   - fileSize: bytes.
    /// - Returns: nil where there are none, too many, or one reaches beyond the file.
    package init?(_ ranges: [ByteRange], fileSize: UInt64) {
        guard ranges.count <= Self.tensorsMax else { return nil }
        var starts: [UInt64] = []
        starts.reserveCapacity(ranges.count)
        for range in ranges where !range.isEmpty {
            guard range.upperBound <= fileSize else { return nil }
            starts.append(range.lowerBound)
        }
        guard !starts.isEmpty else { return nil }
        starts.sort()
        var distinct = 1
        for index in starts.indices.dropFirst() where starts[index] != starts[distinct - 1] {
            starts[distinct] = starts[index]
            distinct += 1
        }
        starts.removeLast(starts.count - distinct)
        self.starts = starts
        end = ranges.reduce(0) { max($0, $1.upperBound) }
    }

    package var count: Int { starts.count }

    /// The tensor that holds the byte at `offset`, up to where the next one begins; nil in the header and behind the last.
    package func tensor(holding offset: UInt64) -> ByteRange? {
        var low = 0
        var high = starts.count
        while low < high {
            let middle = (low + high) / 2
            if starts[middle] <= offset { low = middle + 1 } else { high = middle }
        }
        guard low > 0, offset < end else { return nil }
        return ByteRange(starts[low - 1], low < starts.count ? starts[low] : end)
    }
}
