import MCFSCore

/// Jobs that wait for a thread, in the order of their priority, and the threads. Where all threads are busy, a job that
/// continues one that waits becomes part of it, so that neighbouring misses are one request.
///
/// What nobody waits for yet is asked for on few connections to a source as long as each of them is fast: then the
/// processor is the bound, and more would only take turns on it. A source that gives one connection less than
/// `fastBytesPerSecond` gets all threads from then on.
final class FetchQueue: Sendable {
    /// Longest range that joined jobs may reach, in bytes.
    static let rangeBytesMax: UInt64 = 8 << 20

    /// Ranges at once ahead of readers, from a source whose connections are fast.
    static let fastConnectionsMax = 3
    /// Of one connection: less is a link, a round trip, or a limit of the server's.
    static let fastBytesPerSecond: Double = 150e6
    /// Ranges that tell how fast a source is, in bytes, and how many of them in a row: a thread may have to wait for its turn
    /// on a busy machine.
    static let tellingBytes: UInt64 = 1 << 20
    static let tellingRanges = 4

    private struct State {
        var waiting: [FetchJob] = []
        /// Jobs ahead of readers that run, by source.
        var ahead: [ObjectIdentifier: Int] = [:]
        /// Slow ranges in a row, by source. A number that is used again costs a few connections more.
        var slow: [ObjectIdentifier: Int] = [:]

        /// Whether one more job ahead of readers would be too many for its source.
        func isServed(_ source: any ByteSource) -> Bool {
            let source = ObjectIdentifier(source)
            return slow[source, default: 0] < FetchQueue.tellingRanges
                && ahead[source, default: 0] >= FetchQueue.fastConnectionsMax
        }
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
            let isHeldBack = job.priority != .demand && state.isServed(job.source)
            let isBusy = isHeldBack || state.waiting.count >= state.idle + threadsMax - state.threads
            if isBusy, let before = state.waiting.last(where: { Self.canJoin($0, job) }) {
                before.append(job)
                return false
            }
            state.waiting.append(job)
            guard !isHeldBack, state.waiting.count > state.idle, state.threads < threadsMax else { return false }
            state.threads += 1
            return true
        }
        if needsThread { startThread("mcfs-fetch") { [self] in work() } }
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
            let priority = job.priority
            let started = ContinuousClock.now
            run(job)
            let seconds = (ContinuousClock.now - started).inSeconds
            let source = ObjectIdentifier(job.source)
            let isTelling = job.range.count >= Self.tellingBytes
            let isSlow = Double(job.range.count) < seconds * Self.fastBytesPerSecond
            state.update { state in
                // Once it is known to be slow it stays so: with many connections each of them is.
                if isTelling, state.slow[source, default: 0] < Self.tellingRanges {
                    state.slow[source] = isSlow ? state.slow[source, default: 0] + 1 : nil
                }
                if priority == .prefetch { state.prefetching -= 1 }
                if priority != .demand { state.ahead[source] = state.ahead[source].flatMap { $0 > 1 ? $0 - 1 : nil } }
            }
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
                let job = state.waiting[$0]
                if job.priority == .demand { return true }
                return (job.priority != .prefetch || state.prefetching < prefetchMax) && !state.isServed(job.source)
            }
            guard let first = candidates.min(by: { state.waiting[$0].priority < state.waiting[$1].priority }) else {
                return nil
            }
            let job = state.waiting.remove(at: first)
            if job.priority == .prefetch { state.prefetching += 1 }
            if job.priority != .demand { state.ahead[ObjectIdentifier(job.source), default: 0] += 1 }
            state.idle -= 1
            return .some(job)
        } ?? nil
    }
}
