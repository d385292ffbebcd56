import MCFSCore
import Testing

@testable import FUSEServer

@Suite(.timeLimit(.minutes(5))) struct ThreadsTests {
    @Test("requests that are always there already ask for more threads, those that are waited for for fewer")
    func pace() {
        func needs(
            _ requests: (operation: RequestHeader.Operation?, thread: UInt32, wait: Int)..., times: Int
        ) -> [RequestPace.Need] {
            var pace = RequestPace()
            return (0..<times).flatMap { _ in requests }.compactMap { operation, thread, wait in
                var request = [UInt8](repeating: 0, count: RequestHeader.size)
                request.withUnsafeMutableBytes { bytes in
                    bytes.storeBytes(of: operation?.rawValue ?? 1, toByteOffset: 4, as: UInt32.self)
                    bytes.storeBytes(of: thread, toByteOffset: 32, as: UInt32.self)
                }
                let need = request.withUnsafeBytes { RequestHeader($0) }.map { pace.took($0, afterNanoseconds: wait) }
                return need == .same ? nil : need
            }
        }
        let long = RequestPace.waitNanosecondsMin
        let short = long - 1
        let queued = RequestPace.queuedMax
        let awaited = RequestPace.awaitedMax
        #expect(needs((nil, 1, short), (nil, 2, short), times: queued + 1) == [.more, .more])
        #expect(needs((.read, 1, short), times: 2 * queued) == [.more, .more])
        #expect(needs((nil, 1, long), times: 2 * awaited) == [.fewer, .fewer])
        // Threads that cannot be seen may be many.
        #expect(needs((nil, 0, short), times: 2 * queued) == [.more, .more])
        // One program that opens and closes: the next OPEN comes right behind the RELEASE,
        #expect(needs((.release, 0, long), (.open, 1, short), times: awaited) == [.fewer, .fewer])
        // and both are there where it runs on the same processor.
        #expect(needs((.release, 0, short), (.open, 1, short), times: 2 * awaited) == [.fewer, .fewer])
        // Several programs that do.
        #expect(
            needs((.release, 0, short), (.open, 1, short), (.release, 0, short), (.open, 2, short), times: queued + 1)
                == [.more, .more])
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
