/// The instant by which a wait must have ended; before it, too, once nobody wants the outcome any more. It is handed on
/// through every call that may block: what was cancelled has no time left.
package struct Deadline: Sendable {
    package let instant: ContinuousClock.Instant
    /// nil: nobody gives it up.
    package let cancellation: Cancellation?

    package init(_ instant: ContinuousClock.Instant, cancellation: Cancellation? = nil) {
        self.instant = instant
        self.cancellation = cancellation
    }

    package init(after duration: Duration, cancellation: Cancellation? = nil) {
        self.init(ContinuousClock.now + duration, cancellation: cancellation)
    }

    /// Never negative.
    package var remaining: Duration { isCancelled ? .zero : max(.zero, instant - ContinuousClock.now) }
    package var hasPassed: Bool { isCancelled || instant <= ContinuousClock.now }

    /// For poll(2), which a cancellation does not wake: who gets nothing by then asks again whether it `hasPassed`.
    package var pollMilliseconds: CInt {
        CInt(clamping: min(remaining, cancellation == nil ? .seconds(1 << 20) : .milliseconds(100)).milliseconds)
    }

    /// Waits so long, or until the deadline.
    package func sleep(_ duration: Duration) {
        Guarded(()).wait(until: earlier(Deadline(after: duration))) { _ in Never?.none }
    }

    package var isCancelled: Bool { cancellation?.isCancelled == true }

    /// The earlier instant, and the cancellation of this one, or, where it has none, of the other.
    package func earlier(_ other: Deadline) -> Deadline {
        Deadline(min(instant, other.instant), cancellation: cancellation ?? other.cancellation)
    }
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
