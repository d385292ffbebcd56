extension UInt64 {
    /// Sizes come from manifests and listings: a sum that overflows must not end the process.
    package func addingClamped(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
