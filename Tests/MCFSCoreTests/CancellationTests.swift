import MCFSCore
import Synchronization
import Testing

@Suite struct CancellationTests {
    @Test("what is cancelled has no time left, and nobody waits for it") func ended() {
        let cancellation = Cancellation()
        let deadline = Deadline(after: .seconds(3600), cancellation: cancellation)
        #expect(!deadline.hasPassed && deadline.remaining > .seconds(3000))
        #expect(deadline.pollMilliseconds == 100)
        cancellation.cancel()
        #expect(deadline.hasPassed && deadline.remaining == .zero && deadline.pollMilliseconds == 0)
        #expect(Guarded(1).wait(until: deadline) { _ in Int?.none } == nil)
        deadline.sleep(.seconds(3600))
    }

    @Test("a wait ends when it is cancelled, whatever it waits for") func waiting() throws {
        let cancellation = Cancellation()
        let deadline = Deadline(after: .seconds(3600), cancellation: cancellation)
        let guarded = Guarded(0)
        let isWaiting = Guarded(false)
        let thread = try startThread("waiting") {
            guarded.wait(until: deadline) { _ -> Bool? in
                isWaiting.update { $0 = true }
                return nil
            }
            deadline.sleep(.seconds(3600))
        }
        isWaiting.wait { $0 ? true : nil }
        cancellation.cancel()
        cancellation.cancel()
        thread.join()
    }

    @Test("an earlier deadline keeps who may cancel it") func earlier() {
        let cancellation = Cancellation()
        let long = Deadline(after: .seconds(3600), cancellation: cancellation)
        let short = Deadline(after: .seconds(60))
        #expect(long.earlier(short).remaining <= .seconds(60) && short.earlier(long).remaining <= .seconds(60))
        cancellation.cancel()
        #expect(long.earlier(short).hasPassed && short.earlier(long).hasPassed && !short.hasPassed)
    }
}
