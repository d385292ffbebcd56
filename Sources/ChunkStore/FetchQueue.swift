import MCFSCore

/// Jobs that wait for a thread, in the order of their priority, and the threads. Where all threads are busy, a job that
/// continues one that came lately becomes part of it, so that neighbouring misses are one request.
final class FetchQueue: Sendable {
    /// Longest range that joined jobs may reach, in bytes.
    static let rangeBytesMax: UInt64 = 8 << 20

    fileprivate struct State {
        /// By priority; jobs before the heads are taken.
        var waiting: [[FetchJob?]] = FetchPriority.allCases.map { _ in [] }
        var heads = FetchPriority.allCases.map { _ in 0 }
        var count = 0
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

    /// - Returns: whether somebody will run it; false where the system gives no thread, or the queue has ended.
    func add(_ job: FetchJob) -> Bool {
        enum Outcome { case taken, refused, needsThread }
        let outcome = state.withLock { state -> Outcome in
            if state.hasEnded { return .refused }
            // Where a connection is free, two requests are faster than one.
            let isBusy = state.count >= state.idle + threadsMax - state.threads
            if isBusy,
                let before = state.lately(job.priority).last(where: { $0.map { Self.canJoin($0, job) } ?? false })
            {
                before?.append(job)
                return .taken
            }
            state.append(job)
            guard state.count > state.idle, state.threads < threadsMax else { return .taken }
            state.threads += 1
            return .needsThread
        }
        state.wakeOne()
        guard outcome == .needsThread else { return outcome == .taken }
        if (try? startThread("mcfs-fetch") { [self] in work() }) != nil { return true }
        return state.withLock { state in
            state.threads -= 1
            // Others will come to it.
            if state.threads > 0 { return true }
            state.remove(job)
            return false
        }
    }

    private static func canJoin(_ before: FetchJob, _ next: FetchJob) -> Bool {
        before.source === next.source && before.range.upperBound == next.range.lowerBound
            && before.source.hasRandomAccess && before.ended == nil && next.ended == nil
            && before.range.count + next.range.count <= rangeBytesMax
    }

    /// A reader waits for chunks that a waiting job will bring.
    func promote(_ blob: Blob, _ chunks: Set<Int>) {
        state.withLock { state in
            for priority in [FetchPriority.readAhead, .prefetch] {
                for index in state.heads[priority.rawValue]..<state.waiting[priority.rawValue].count {
                    guard let job = state.waiting[priority.rawValue][index],
                        job.pieces.contains(where: { $0.use.blob === blob && chunks.contains($0.chunk) })
                    else { continue }
                    state.waiting[priority.rawValue][index] = nil
                    state.count -= 1
                    job.priority = .demand
                    state.append(job)
                }
            }
        }
        // A thread that may not prefetch may take it now.
        state.wakeOne()
    }

    /// Takes out all that wait; threads end when they are idle.
    func end() -> [FetchJob] {
        state.update { state in
            state.hasEnded = true
            defer { state.waiting = FetchPriority.allCases.map { _ in [] } }
            return state.waiting.joined().compactMap { $0 }
        }
    }

    private func work() {
        while let job = next() {
            let isPrefetch = job.priority == .prefetch
            run(job)
            if isPrefetch { state.withLock { $0.prefetching -= 1 } }
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
            guard
                let job = state.takeFirst(.demand) ?? state.takeFirst(.readAhead)
                    ?? (state.prefetching < prefetchMax ? state.takeFirst(.prefetch) : nil)
            else { return nil }
            if job.priority == .prefetch { state.prefetching += 1 }
            state.idle -= 1
            return .some(job)
        } ?? nil
    }
}

extension FetchQueue.State {
    /// Jobs that a new one is compared with.
    fileprivate func lately(_ priority: FetchPriority) -> ArraySlice<FetchJob?> {
        waiting[priority.rawValue][heads[priority.rawValue]...].suffix(64)
    }

    fileprivate mutating func append(_ job: FetchJob) {
        waiting[job.priority.rawValue].append(job)
        count += 1
    }

    fileprivate mutating func takeFirst(_ priority: FetchPriority) -> FetchJob? {
        let queue = priority.rawValue
        while heads[queue] < waiting[queue].count {
            defer { heads[queue] += 1 }
            guard let job = waiting[queue][heads[queue]] else { continue }
            // What was taken must not keep its pieces.
            waiting[queue][heads[queue]] = nil
            count -= 1
            return job
        }
        waiting[queue].removeAll(keepingCapacity: true)
        heads[queue] = 0
        return nil
    }

    fileprivate mutating func remove(_ job: FetchJob) {
        for queue in waiting.indices {
            guard let index = waiting[queue].firstIndex(where: { $0 === job }) else { continue }
            waiting[queue][index] = nil
            count -= 1
        }
    }
}
