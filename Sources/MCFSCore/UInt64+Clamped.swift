// Sizes come from manifests and listings: a sum that overflows must not end the process.

extension UInt64 {
    /// The greatest number where the sum is greater.
    package func addingClamped(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }

    package mutating func addClamped(_ other: UInt64) { self = addingClamped(other) }
}

extension Sequence {
    /// The sum of what `size` gives for each; the greatest number where the sum is greater.
    package func clampedSum(_ size: (Element) -> UInt64) -> UInt64 {
        reduce(UInt64(0)) { $0.addingClamped(size($1)) }
    }
}
