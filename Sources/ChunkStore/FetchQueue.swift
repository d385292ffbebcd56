import MCFSCore

/// Jobs of one origin that wait for a thread, in the order of their priority, and the threads. Where all threads are busy, a job
/// that continues one that came lately becomes part of it, so that neighbouring misses are one request.
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
        var pace = Pace()
        var hasEnded = false
    }

    /// A thread that had nothing to do for so long ends.
    private static let idleMax = Duration.seconds(30)

    private let state = Guarded(State())
    private let threadsMax: Int
    private let run: @Sendable (FetchJob) -> Void
    private let becameIdle: @Sendable () -> Void

    /// - Parameters:
    ///   - run: makes the request; called on a thread of the queue, may block.
    ///   - becameIdle: called when the last thread has ended for want of work.
    init(
        threads: Int, run: @escaping @Sendable (FetchJob) -> Void, becameIdle: @escaping @Sendable () -> Void = {}
    ) {
        threadsMax = max(threads, 1)
        self.run = run
        self.becameIdle = becameIdle
    }

    /// Whether it has neither work nor threads.
    var isIdle: Bool { state.withLock { $0.count == 0 && $0.threads == 0 } }

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
            return state.takesThread(threadsMax) ? .needsThread : .taken
        }
        state.wakeOne()
        guard outcome == .needsThread else { return outcome == .taken }
        if isStarted() { return true }
        return state.withLock { state in
            // Others will come to it.
            if state.threads > 0 { return true }
            state.remove(job)
            return false
        }
    }

    /// Starts the thread that `takesThread` has counted.
    private func isStarted() -> Bool {
        if (try? startThread("mcfs-fetch") { [self] in work() }) != nil { return true }
        state.withLock { $0.threads -= 1 }
        return false
    }

    private static func canJoin(_ before: FetchJob, _ next: FetchJob) -> Bool {
        before.source === next.source && before.range.upperBound == next.range.lowerBound
            && before.source.hasRandomAccess && before.group == nil && next.group == nil
            && before.range.count + next.range.count <= rangeBytesMax
    }

    /// A reader waits for chunks that a waiting job will bring.
    func promote(_ blob: Blob, _ chunks: Set<Int>) {
        let needsThread = state.withLock { state in
            var isFound = false
            for priority in [FetchPriority.readAhead, .prefetch] {
                for index in state.heads[priority.rawValue]..<state.waiting[priority.rawValue].count {
                    guard let job = state.waiting[priority.rawValue][index],
                        job.pieces.contains(where: { $0.use.blob === blob && chunks.contains($0.chunk) })
                    else { continue }
                    state.waiting[priority.rawValue][index] = nil
                    state.count -= 1
                    job.priority = .demand
                    state.append(job)
                    isFound = true
                }
            }
            return isFound && state.takesThread(threadsMax)
        }
        // A thread that may not prefetch may take it now.
        state.wakeOne()
        if needsThread { _ = isStarted() }
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
            state.withLock { state in
                if isPrefetch { state.prefetching -= 1 }
                state.pace.learn(bytes: job.received, in: job.duration)
            }
        }
        if isIdle { becameIdle() }
    }

    fileprivate enum Turn { case job(FetchJob), end }

    private func next() -> FetchJob? {
        state.withLock { $0.idle += 1 }
        // A quarter of the threads never prefetches: readers find one free.
        let prefetchMax = max(1, threadsMax - max(1, threadsMax / 4))
        func take(_ state: inout State) -> Turn? {
            if state.hasEnded { return state.endThread() }
            guard
                let job = state.takeFirst(.demand) ?? state.takeFirst(.readAhead)
                    ?? (state.prefetching < prefetchMax ? state.takeFirst(.prefetch) : nil)
            else { return nil }
            state.idle -= 1
            if job.priority == .prefetch {
                state.prefetching += 1
                if let rest = job.split(after: state.pace.rangeBytesMax) { state.putBack(rest) }
            }
            return .job(job)
        }
        let turn = state.wait(until: Deadline(after: Self.idleMax), take)
        guard case .job(let job)? = turn ?? state.withLock({ take(&$0) ?? $0.endThread() }) else { return nil }
        return job
    }
}

extension FetchQueue.State {
    fileprivate mutating func endThread() -> FetchQueue.Turn {
        idle -= 1
        threads -= 1
        return .end
    }

    /// Jobs that a new one is compared with.
    fileprivate func lately(_ priority: FetchPriority) -> ArraySlice<FetchJob?> {
        waiting[priority.rawValue][heads[priority.rawValue]...].suffix(64)
    }

    /// Counts one more thread where those that have nothing to do are too few. - Returns: whether it is to be started.
    fileprivate mutating func takesThread(_ threadsMax: Int) -> Bool {
        guard count > idle, threads < threadsMax else { return false }
        threads += 1
        return true
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

    /// Comes next of its priority.
    fileprivate mutating func putBack(_ job: FetchJob) {
        let queue = job.priority.rawValue
        if heads[queue] > 0 {
            heads[queue] -= 1
            waiting[queue][heads[queue]] = job
        } else {
            waiting[queue].insert(job, at: 0)
        }
        count += 1
    }

    fileprivate mutating func remove(_ job: FetchJob) {
        for queue in waiting.indices {
            guard let index = waiting[queue].firstIndex(where: { $0 === job }) else { continue }
            waiting[queue][index] = nil
            count -= 1
        }
    }
}
