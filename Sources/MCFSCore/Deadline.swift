/// The instant by which a wait must have ended.
package struct Deadline: Sendable {
    package let instant: ContinuousClock.Instant

    package init(after duration: Duration) { instant = ContinuousClock.now + duration }
    package init(_ instant: ContinuousClock.Instant) { self.instant = instant }

    /// Never negative.
    package var remaining: Duration { max(.zero, instant - ContinuousClock.now) }
    package var hasPassed: Bool { instant <= ContinuousClock.now }

    package func earlier(_ other: Deadline) -> Deadline { Deadline(min(instant, other.instant)) }
}

extension Duration {
    /// Whole milliseconds, rounded up.
    package var milliseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000
    }

    package var inSeconds: Double {
        Double(components.seconds) + Double(components.attoseconds) * 1e-18
    }
}
