internal import MCFSCore

/// Asks something that may never answer, on a thread of its own: whoever waits gives up at a deadline, and while a
/// question is stuck no other is asked. Safe from any thread.
final class Attempt<Answer: Sendable>: Sendable {
    private struct State: Sendable {
        var asked = 0
        var answered = 0
        var answer: Answer?
        /// Somebody gave up waiting for the question that is open.
        var isStuck = false
    }

    private let name: String
    private let question: @Sendable () -> Answer
    private let state = Guarded(State())

    /// - Parameter name: of its thread.
    init(_ name: String, _ question: @escaping @Sendable () -> Answer) {
        self.name = name
        self.question = question
    }

    /// Asks, or joins the question that is open.
    ///
    /// - Returns: what to wait for; nil where an earlier question is stuck, or no thread can be had.
    func ask() -> Int? {
        let (ticket, isNew): (Int?, Bool) = state.withLock { state in
            if state.asked > state.answered { return (state.isStuck ? nil : state.asked, false) }
            state.asked += 1
            state.isStuck = false
            return (state.asked, true)
        }
        guard isNew else { return ticket }
        do throws(Errno) {
            try startThread(name) { [self] in
                let answer = question()
                state.update { state in
                    state.answer = answer
                    state.answered = state.asked
                }
            }
        } catch {
            // Those who joined meanwhile hear that nobody knows.
            state.update { state in
                state.answer = nil
                state.answered = state.asked
            }
            return nil
        }
        return ticket
    }

    /// - Returns: nil at the deadline.
    func answer(to ticket: Int, until deadline: Deadline) -> Answer? {
        if let answer = state.wait(until: deadline, { $0.answered >= ticket ? $0.answer : nil }) { return answer }
        return state.withLock { state in
            if state.answered >= ticket { return state.answer }
            state.isStuck = true
            return nil
        }
    }
}
