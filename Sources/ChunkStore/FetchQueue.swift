import MCFSCore

/// Jobs that wait for a thread, in the order of their priority, and the threads. Where all threads are busy, a job that
/// continues one that waits becomes part of it, so that neighbouring misses are one request.
final class FetchQueue: Sendable {
    /// Longest range that joined jobs may reach, in bytes.
    static let rangeBytesMax: UInt64 = 8 << 20

    private struct State {
        var waiting: [FetchJob] = []
        var threads = 0
        var idle = 0
        var prefetching = 0
        var hasEnded = false
    }

    private let state = Guarded(State())
    private let threadsMax: Int
    private let run: @Sendable (FetchJob) -> Void

    /// - Parameter run: makes the request; called on a thread of the queue, may block.
    init(threads: Int, run: @escaping @Sendable (FetchJob) -> Void) {
        threadsMax = max(threads, 1)
        self.run = run
    }

    func add(_ job: FetchJob) {
        let needsThread = state.update { state -> Bool in
            if state.hasEnded { return false }
            // Where a connection is free, two requests are faster than one.
            let isBusy = state.waiting.count >= state.idle + threadsMax - state.threads
            if isBusy, let before = state.waiting.last(where: { Self.canJoin($0, job) }) {
                before.append(job)
                return false
            }
            state.waiting.append(job)
            guard state.waiting.count > state.idle, state.threads < threadsMax else { return false }
            state.threads += 1
            return true
        }
        // Without one, the threads that are there come to it.
        if needsThread, (try? startThread("mcfs-fetch") { [self] in work() }) == nil {
            state.update { $0.threads -= 1 }
        }
    }

    private static func canJoin(_ before: FetchJob, _ next: FetchJob) -> Bool {
        before.source === next.source && before.range.upperBound == next.range.lowerBound
            && before.source.hasRandomAccess && before.ended == nil && next.ended == nil
            && before.range.count + next.range.count <= rangeBytesMax
    }

    /// A reader waits for a chunk that a waiting job will bring.
    func promote(_ blob: Blob, _ chunks: Set<Int>) {
        state.update { state in
            for job in state.waiting
            where job.priority != .demand
                && job.pieces.contains(where: { $0.use.blob === blob && chunks.contains($0.chunk) })
            {
                job.priority = .demand
            }
        }
    }

    /// Takes out all that wait; threads end when they are idle.
    func end() -> [FetchJob] {
        state.update { state in
            state.hasEnded = true
            defer { state.waiting = [] }
            return state.waiting
        }
    }

    private func work() {
        while let job = next() {
            let isPrefetch = job.priority == .prefetch
            run(job)
            if isPrefetch { state.update { $0.prefetching -= 1 } }
        }
    }

    private func next() -> FetchJob? {
        state.withLock { $0.idle += 1 }
        // A quarter of the threads never prefetches: readers find one free.
        let prefetchMax = max(1, threadsMax - max(1, threadsMax / 4))
        return state.wait { state -> FetchJob?? in
            if state.hasEnded {
                state.idle -= 1
                state.threads -= 1
                return .some(nil)
            }
            let candidates = state.waiting.indices.filter {
                state.waiting[$0].priority != .prefetch || state.prefetching < prefetchMax
            }
            guard let first = candidates.min(by: { state.waiting[$0].priority < state.waiting[$1].priority }) else {
                return nil
            }
            let job = state.waiting.remove(at: first)
            if job.priority == .prefetch { state.prefetching += 1 }
            state.idle -= 1
            return .some(job)
        } ?? nil
    }
}
