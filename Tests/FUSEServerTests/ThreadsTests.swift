import MCFSCore
import Testing

@testable import FUSEServer

@Suite(.timeLimit(.minutes(5))) struct ThreadsTests {
    @Test("requests that are always there already ask for more threads, those that are waited for for fewer")
    func pace() {
        func needs(_ waits: [Int]) -> [RequestPace.Need] {
            var pace = RequestPace()
            return waits.map { pace.took(afterNanoseconds: $0) }.filter { $0 != .same }
        }
        let long = RequestPace.waitNanosecondsMin
        let short = long - 1
        #expect(needs(Array(repeating: short, count: 2 * RequestPace.queuedMax)) == [.more, .more])
        #expect(needs(Array(repeating: long, count: 2 * RequestPace.awaitedMax)) == [.fewer, .fewer])
        // One program that opens and closes: the next OPEN comes right behind the RELEASE.
        #expect(needs((0..<2 * RequestPace.awaitedMax).flatMap { _ in [long, short] }) == [.fewer, .fewer])
    }

    @Test("work runs while other work waits, and what waits for a thread runs later")
    func waitingThreads() throws {
        let threads = WaitingThreads("test", threadsMax: 2)
        try threads.start()
        defer { threads.end() }
        let state = Guarded((begun: 0, done: 0, isFree: false))
        for _ in 0..<3 {
            threads.run {
                state.update { $0.begun += 1 }
                state.wait { $0.isFree ? true : nil }
                state.update { $0.done += 1 }
            }
        }
        state.wait { $0.begun == 2 ? true : nil }
        state.update { $0.isFree = true }
        state.wait { $0.done == 3 ? true : nil }
    }

    @Test("what waits for a thread at the end is forgotten")
    func forgotten() throws {
        final class Held: Sendable {}
        let threads = WaitingThreads("test", threadsMax: 1)
        try threads.start()
        let state = Guarded((hasBegun: false, isFree: false))
        threads.run {
            state.update { $0.hasBegun = true }
            state.wait { $0.isFree ? true : nil }
        }
        state.wait { $0.hasBegun ? true : nil }
        weak var held: Held?
        do {
            let made = Held()
            held = made
            threads.run { withExtendedLifetime(made) {} }
        }
        #expect(held != nil)
        threads.end()
        #expect(held == nil)
        state.update { $0.isFree = true }
    }

    @Test("a lookout looks once it is woken, and again as long as it is told to")
    func lookout() throws {
        let lookout = Lookout()
        let state = Guarded((looks: 0, wanted: 3))
        lookout.add {
            state.update { state in
                state.looks += 1
                return state.looks < state.wanted
            }
        }
        try lookout.start()
        defer { lookout.end() }
        lookout.wake()
        state.wait { $0.looks == 3 ? true : nil }
        state.withLock { $0.wanted = 4 }
        lookout.wake()
        state.wait { $0.looks == 4 ? true : nil }
    }
}
