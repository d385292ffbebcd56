import MCFSCore
import Synchronization

/// A queue with threads of its own for each origin: one that is slow, or does not answer, holds up no other.
///
/// A queue goes when it has been idle for a while. Where there are more origins than queues, the latest share one.
final class FetchLanes: Sendable {
    /// Queues, and so threads: `lanesMax` + 1 times those of one origin at most.
    static let lanesMax = 15

    private struct Lane {
        let queue: FetchQueue
        /// Who is about to add to it.
        var uses = 0
    }

    private struct State {
        var lanes: [String: Lane] = [:]
        var hasEnded = false
    }

    private let state = Lock(State())
    private let threads: Int
    private let run: @Sendable (FetchJob) -> Void

    /// - Parameters:
    ///   - threads: of each origin: also the most requests at once to it.
    ///   - run: makes the request; called on a thread of a queue, may block.
    init(threads: Int, run: @escaping @Sendable (FetchJob) -> Void) {
        self.threads = threads
        self.run = run
    }

    /// - Returns: whether somebody will run it; false where the system gives no thread, or the cache is closed.
    func add(_ job: FetchJob) -> Bool {
        guard let (name, queue) = take(job.source.origin) else { return false }
        defer { giveBack(name) }
        return queue.add(job)
    }

    /// A reader waits for chunks that a waiting job will bring.
    func promote(_ blob: Blob, _ chunks: Set<Int>) {
        for lane in state.withLock({ Array($0.lanes.values) }) { lane.queue.promote(blob, chunks) }
    }

    /// Takes out all that wait; threads end when they are idle.
    func end() -> [FetchJob] {
        let lanes = state.withLock { state in
            state.hasEnded = true
            defer { state.lanes = [:] }
            return Array(state.lanes.values)
        }
        return lanes.flatMap { $0.queue.end() }
    }

    private func take(_ origin: String) -> (String, FetchQueue)? {
        state.withLock { state in
            if state.hasEnded { return nil }
            let name = state.lanes[origin] != nil || state.lanes.count < Self.lanesMax ? origin : Self.shared
            if state.lanes[name] == nil {
                let queue = FetchQueue(threads: threads, run: run) { [weak self] in self?.dropIdle(name) }
                state.lanes[name] = Lane(queue: queue)
            }
            state.lanes[name]?.uses += 1
            return state.lanes[name].map { (name, $0.queue) }
        }
    }

    private static let shared = "*"

    private func giveBack(_ name: String) { state.withLock { $0.lanes[name]?.uses -= 1 } }

    private func dropIdle(_ name: String) {
        state.withLock { state in
            guard let lane = state.lanes[name], lane.uses == 0, lane.queue.isIdle else { return }
            state.lanes[name] = nil
        }
    }
}
