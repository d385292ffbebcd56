/// A half-open range of byte offsets.
package struct ByteRange: Hashable, Sendable, CustomStringConvertible {
    package var lowerBound: UInt64
    package var upperBound: UInt64

    package init(_ lowerBound: UInt64, _ upperBound: UInt64) {
        precondition(lowerBound <= upperBound, "a range ends before it begins")
        self.lowerBound = lowerBound
        self.upperBound = upperBound
    }

    package init(offset: UInt64, count: UInt64) { self.init(offset, offset + count) }

    package var count: UInt64 { upperBound - lowerBound }
    package var isEmpty: Bool { lowerBound == upperBound }

    /// The part that both share; empty (at a bound of `self`) where they share none.
    package func clamped(to other: ByteRange) -> ByteRange {
        let low = min(max(lowerBound, other.lowerBound), other.upperBound)
        return ByteRange(low, max(low, min(upperBound, other.upperBound)))
    }

    package func contains(_ other: ByteRange) -> Bool {
        lowerBound <= other.lowerBound && other.upperBound <= upperBound
    }

    package func overlaps(_ other: ByteRange) -> Bool {
        lowerBound < other.upperBound && other.lowerBound < upperBound
    }

    /// `a-b`, both inclusive, as an HTTP `Range` has it. Not for empty ranges.
    package var httpDescription: String { "\(lowerBound)-\(upperBound - 1)" }

    package var description: String { "\(lowerBound)..<\(upperBound)" }
}
