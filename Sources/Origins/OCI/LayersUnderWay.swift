internal import Catalog
internal import MCFSCore
internal import OCI
internal import Synchronization

/// Layers that are being read for their tables. Who wants one that is being read for somebody else waits for that, and sees
/// its progress; what nobody waits for any more is given up. Thread safe.
package final class LayersUnderWay: Sendable {
    private let readings = Lock<[Digest: Reading]>([:])

    package init() {}

    /// Blocks until the layer is read, by a thread of its own.
    ///
    /// - Parameters:
    ///   - deadline: of this caller; others may go on waiting.
    ///   - read: reads the layer. Called where nobody does, or where who does has no right to it.
    func table(
        of digest: Digest, progress: any ProgressReporter, deadline: Deadline,
        _ read: @escaping @Sendable (any ProgressReporter, Deadline) throws(MCFSError) -> LayerTable
    ) throws(MCFSError) -> LayerTable {
        while true {
            let (reading, isOurs) = join(digest, progress)
            if isOurs { start(reading, of: digest, deadline, read) } else { reading.tellLast(progress) }
            let outcome = reading.outcome.wait(until: deadline) { $0 }
            leave(reading, of: digest, progress)
            switch outcome {
            case .success(let table): return table
            case .failure(let error):
                // It was asked for with somebody else's credentials, at somebody else's mirror.
                guard !isOurs, error.code == .unauthorized || error.code == .notFound else { throw error }
            case nil: throw MCFSError(.timedOut, "layer \(digest) could not be read in time", isTransient: true)
            }
        }
    }

    /// For tests.
    func isAwaited(_ digest: Digest, by count: Int) -> Bool {
        readings.withLock { $0[digest]?.callers.withLock { $0.count } == count }
    }

    private func join(_ digest: Digest, _ progress: any ProgressReporter) -> (Reading, isOurs: Bool) {
        readings.withLock { readings in
            let known = readings[digest]
            let reading = known ?? Reading()
            readings[digest] = reading
            reading.callers.withLock { $0.append(progress) }
            return (reading, known == nil)
        }
    }

    private func leave(_ reading: Reading, of digest: Digest, _ progress: any ProgressReporter) {
        let isLast = readings.withLock { readings in
            let isLast = reading.callers.withLock { callers in
                if let index = callers.firstIndex(where: { $0 === progress }) { callers.remove(at: index) }
                return callers.isEmpty
            }
            // Who comes now begins anew.
            if isLast, readings[digest] === reading { readings[digest] = nil }
            return isLast
        }
        if isLast { reading.cancellation.cancel() }
    }

    private func start(
        _ reading: Reading, of digest: Digest, _ deadline: Deadline,
        _ read: @escaping @Sendable (any ProgressReporter, Deadline) throws(MCFSError) -> LayerTable
    ) {
        // As late as the first who wants it; each of the others has a deadline of its own.
        let deadline = Deadline(deadline.instant, cancellation: reading.cancellation)
        do throws(Errno) {
            try startThread("mcfs-layer") { [self] in
                finish(reading, of: digest, Result { () throws(MCFSError) in try read(reading, deadline) })
            }
        } catch {
            finish(reading, of: digest, .failure(MCFSError(noThread: error)))
        }
    }

    private func finish(_ reading: Reading, of digest: Digest, _ outcome: Result<LayerTable, MCFSError>) {
        readings.withLock { if $0[digest] === reading { $0[digest] = nil } }
        reading.outcome.update { $0 = outcome }
    }

    /// Tells all who wait for it how far it is.
    private final class Reading: ProgressReporter, Sendable {
        let outcome = Guarded<Result<LayerTable, MCFSError>?>(nil)
        let cancellation = Cancellation()
        let callers = Lock<[any ProgressReporter]>([])
        private let last = Lock<(phase: String, done: UInt64, total: UInt64?)?>(nil)

        /// How far it was when it was told last, for who comes now.
        func tellLast(_ progress: any ProgressReporter) {
            guard let last = last.withLock({ $0 }) else { return }
            progress.report(phase: last.phase, done: last.done, total: last.total)
        }

        func report(phase: String, done: UInt64, total: UInt64?) {
            last.withLock { $0 = (phase, done, total) }
            for caller in callers.withLock({ $0 }) { caller.report(phase: phase, done: done, total: total) }
        }

        func warn(_ message: String) { for caller in callers.withLock({ $0 }) { caller.warn(message) } }
    }
}
