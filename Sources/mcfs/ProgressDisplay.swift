internal import ControlAPI
internal import Glibc
internal import Synchronization
import MCFSCore

/// Shows progress on standard error: one line that is drawn again on a terminal, a plain line now and then elsewhere.
final class ProgressDisplay: Sendable {
    private struct State {
        var phase = ""
        var phaseStarted = ContinuousClock.now
        /// Bytes that were done when the phase began.
        var base: UInt64 = 0
        var lastShown: ContinuousClock.Instant?
        var isLineOpen = false
    }

    private let isOn: Bool
    private let isTerminal: Bool
    private let state = Lock(State())

    /// Plain lines come no closer together than this.
    private static let plainInterval = Duration.seconds(5)
    private static let terminalInterval = Duration.milliseconds(100)

    init(_ output: Output) {
        isOn = !output.quiet
        isTerminal = isatty(2) == 1
    }

    func show(_ progress: Progress) {
        guard isOn else { return }
        let now = ContinuousClock.now
        let text: String? = state.withLock { state in
            let isNews = state.phase != progress.phase
            if isNews {
                state.phase = progress.phase
                state.phaseStarted = now
                state.base = progress.done
            }
            let interval = isTerminal ? Self.terminalInterval : Self.plainInterval
            // Short work needs no plain line at all: the first comes when the interval has passed.
            let last = state.lastShown ?? (isTerminal ? nil : state.phaseStarted)
            if let last, now - last < interval, !(isNews && isTerminal) { return nil }
            state.lastShown = now
            state.isLineOpen = isTerminal
            return Self.text(progress, base: state.base, seconds: (now - state.phaseStarted).inSecondsOfProgress)
        }
        guard let text else { return }
        // Clears to the end of the line, so that a shorter text leaves nothing of a longer one.
        Output.standardError(isTerminal ? "\r\(text)\u{1B}[K" : "mcfs: \(text)\n")
    }

    /// Clears the line, before anything else is printed.
    func end() {
        let wasOpen = state.withLock { state in
            defer { state.isLineOpen = false }
            return state.isLineOpen
        }
        if wasOpen { Output.standardError("\r\u{1B}[K") }
    }

    static func text(_ progress: Progress, base: UInt64, seconds: Double) -> String {
        var text = progress.phase
        if let total = progress.total, total > 0 {
            let percent = Int(min(100, Double(progress.done) / Double(total) * 100))
            text += "  \(ByteSize.text(progress.done)) of \(ByteSize.text(total))  \(percent)%"
        } else if progress.done > 0 {
            text += "  \(ByteSize.text(progress.done))"
        }
        let rate = seconds > 0.5 && progress.done > base ? Double(progress.done - base) / seconds : 0
        if rate >= 1 {
            text += "  \(ByteSize.text(UInt64(rate)))/s"
            if let total = progress.total, total > progress.done {
                text += "  \(duration(Double(total - progress.done) / rate)) left"
            }
        }
        return text
    }

    static func duration(_ seconds: Double) -> String {
        let whole = Int(min(seconds.rounded(.up), 359_999))
        if whole < 60 { return "\(whole)s" }
        if whole < 3600 { return "\(whole / 60)m\(whole % 60)s" }
        return "\(whole / 3600)h\(whole % 3600 / 60)m"
    }
}

extension Duration {
    fileprivate var inSecondsOfProgress: Double {
        Double(components.seconds) + Double(components.attoseconds) * 1e-18
    }
}
