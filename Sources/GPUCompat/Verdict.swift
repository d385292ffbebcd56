/// Whether a kernel runs on the GPUs of a host, and why.
package struct Verdict: Hashable, Sendable {
    package enum Outcome: String, Sendable, CaseIterable {
        /// At least one GPU runs it.
        case runs
        /// Surely no GPU runs it.
        case foreign
        /// It cannot be said: to be shown, not hidden.
        case unknown
    }

    package var outcome: Outcome
    /// One sentence that names both sides: `built for sm_80; this host has sm_90 (NVIDIA H100 80GB HBM3)`.
    package var reason: String
    /// The rule that decided, for scripts: `no-target`, `no-gpu`, or one of `CompatibilityRule`.
    package var rule: String

    package init(outcome: Outcome, reason: String, rule: String) {
        self.outcome = outcome
        self.reason = reason
        self.rule = rule
    }

    /// Of a kernel that does not say what it needs.
    package static let noTarget = Verdict(
        outcome: .unknown, reason: "it does not say which GPU it was built for", rule: "no-target")
}
