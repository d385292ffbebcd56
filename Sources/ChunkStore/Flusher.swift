import Glibc
import MCFSCore

/// Syncs what was written, now and then, so that a power cut loses little (`SyncPoint`). A thread of its own.
final class Flusher: Sendable {
    private let state = Guarded((isDirty: false, hasEnded: false, isRunning: false))
    private let directory: CacheDirectory
    private let table: BlobTable
    private let syncPoint: SyncPoint

    init(_ directory: CacheDirectory, _ table: BlobTable, _ syncPoint: SyncPoint) {
        self.directory = directory
        self.table = table
        self.syncPoint = syncPoint
    }

    func start(every interval: Duration) throws(Errno) {
        state.withLock { $0.isRunning = true }
        do throws(Errno) { try startThread("mcfs-sync") { [self] in run(every: interval) } } catch {
            state.withLock { $0.isRunning = false }
            throw error
        }
    }

    private func run(every interval: Duration) {
        while true {
            let isDirty =
                state.wait { state -> Bool? in state.isDirty || state.hasEnded ? state.isDirty : nil } ?? false
            _ = state.wait(until: Deadline(after: interval)) { $0.hasEnded ? true : nil }
            if isDirty { flush() }
            if state.withLock({ $0.hasEnded }) { break }
        }
        state.update { $0.isRunning = false }
    }

    func noteWrite() {
        if state.withLock({ $0.isDirty }) { return }
        state.update { $0.isDirty = true }
    }

    /// Flushes a last time and waits for it.
    func end() {
        state.update { $0.hasEnded = true }
        _ = state.wait { $0.isRunning ? nil : true }
    }

    private func flush() {
        state.withLock { $0.isDirty = false }
        let before = Int64(time(nil))
        let maps = table.all.compactMap { $0.blob.snapshotForSync() }
        directory.flushFileSystem()
        for (map, present) in maps { try? map.recordDurable(present) }
        try? syncPoint.write(syncedUntil: before, in: directory)
    }
}
