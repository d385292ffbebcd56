internal import MCFSCore
internal import Synchronization

/// How many requests have no answer yet, or one that is still being sent. Thread safe.
final class AnswersUnderWay: Sendable {
    /// Counts for as long as somebody has it.
    final class Note: Sendable {
        private let answers: AnswersUnderWay

        fileprivate init(_ answers: AnswersUnderWay) {
            self.answers = answers
            answers.count.withLock { $0 += 1 }
        }

        deinit { answers.count.withLock { $0 -= 1 } }
    }

    private let count = Lock(0)

    func begin() -> Note { Note(self) }

    /// Until there are none. At the end of a daemon only: new requests may come all the time before.
    func wait(_ deadline: Deadline) async {
        while count.withLock({ $0 }) > 0, !deadline.hasPassed { try? await Task.sleep(for: .milliseconds(2)) }
    }
}
