import MCFSCore
import Testing

@Suite(.timeLimit(.minutes(5))) struct StartedThreadTests {
    @Test("who joins a thread finds its work done and what it held gone")
    func join() throws {
        final class Held: Sendable {}
        let done = Guarded(false)
        weak var held: Held?
        let thread = try {
            let made = Held()
            held = made
            return try startThread("test") {
                done.update { $0 = true }
                withExtendedLifetime(made) {}
            }
        }()
        thread.join()
        #expect(done.withLock { $0 })
        #expect(held == nil)
    }

    @Test("a thread that joins itself goes on")
    func joinsItself() throws {
        let own = Guarded<StartedThread?>(nil)
        let thread = try startThread("test") { own.wait { $0 }?.join() }
        own.update { $0 = thread }
        thread.join()
    }
}
