// Sizes and times come from manifests and listings: a sum that overflows must not end the process.

extension UInt64 {
    /// The greatest number where the sum is greater.
    package func addingClamped(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }

    package mutating func addClamped(_ other: UInt64) { self = addingClamped(other) }
}

extension Int64 {
    /// The number that is nearest to the difference.
    package func subtractingClamped(_ other: Int64) -> Int64 {
        let (difference, overflow) = subtractingReportingOverflow(other)
        return overflow ? (other < 0 ? .max : .min) : difference
    }

    /// The number that is nearest to the sum.
    package func addingClamped(_ other: Int64) -> Int64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? (other < 0 ? .min : .max) : sum
    }
}

extension Sequence {
    /// The sum of what `size` gives for each; the greatest number where the sum is greater.
    package func clampedSum(_ size: (Element) -> UInt64) -> UInt64 {
        reduce(UInt64(0)) { $0.addingClamped(size($1)) }
    }
}
