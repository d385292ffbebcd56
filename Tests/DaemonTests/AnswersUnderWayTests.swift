import MCFSCore
import Synchronization
import Testing

@testable import Daemon

@Suite struct AnswersUnderWayTests {
    @Test("nothing under way is not waited for", .timeLimit(.minutes(5))) func idle() async {
        let answers = AnswersUnderWay()
        _ = answers.begin()
        await answers.wait(Deadline(after: .seconds(3600)))
    }

    @Test("an answer is waited for until its body was sent and is gone", .timeLimit(.minutes(5)))
    func busy() async throws {
        let answers = AnswersUnderWay()
        var body: EventBody? = EventBody(first: [1, 2], rest: nil, answers.begin())
        let hasWaited = Lock(false)
        let waiting = Task {
            await answers.wait(Deadline(after: .seconds(50)))
            hasWaited.withLock { $0 = true }
        }
        var bytes: [UInt8] = []
        var iterator = body?.makeAsyncIterator()
        while let byte = try await iterator?.next() { bytes.append(byte) }
        #expect(bytes == [1, 2])
        #expect(!hasWaited.withLock { $0 })
        (iterator, body) = (nil, nil)
        await waiting.value
    }

    @Test("what is under way for longer than that is left", .timeLimit(.minutes(5))) func patience() async {
        let answers = AnswersUnderWay()
        let note = answers.begin()
        await answers.wait(Deadline(after: .milliseconds(10)))
        withExtendedLifetime(note) {}
    }
}
