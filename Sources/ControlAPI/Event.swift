/// How far long work is. Bytes, unless the phase counts something else.
package struct Progress: Codable, Sendable, Equatable {
    package var phase: String
    package var done: UInt64
    package var total: UInt64?

    package init(phase: String, done: UInt64, total: UInt64?) {
        self.phase = phase
        self.done = done
        self.total = total
    }
}

/// One line of the answer to a request that may take long: newline-delimited JSON in which exactly one key is set. The
/// last line has `result` or `error`; without one of them the answer was cut.
package struct Event<Result: Codable & Sendable>: Codable, Sendable {
    package var progress: Progress?
    package var entries: [ListedEntry]?
    package var warning: String?
    package var result: Result?
    package var error: ControlError?

    package init(
        progress: Progress? = nil, entries: [ListedEntry]? = nil, warning: String? = nil, result: Result? = nil,
        error: ControlError? = nil
    ) {
        self.progress = progress
        self.entries = entries
        self.warning = warning
        self.result = result
        self.error = error
    }
}
