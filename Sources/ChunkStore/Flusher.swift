internal import CLinux
import Glibc
import MCFSCore
import Synchronization

/// The contents that were written since the last flush, also those that are closed.
final class DirtyContents: Sendable {
    private struct State {
        var keys: Set<ContentKey> = []
        /// Those whose digest is known to be right, which only their blob knows until they have their name.
        var held: [BlobUse] = []
        /// Flushes that began, and that are done.
        var begun = 0
        var done = 0
        var isHurried = false
        var hasEnded = false
    }

    private let state = Guarded(State())

    func add(_ key: ContentKey, holding use: BlobUse? = nil) {
        let isFirst = state.withLock { state in
            if let use { state.held.append(use) }
            defer { state.keys.insert(key) }
            return state.keys.isEmpty
        }
        if isFirst { state.update { _ in } }
    }

    /// Waits until there are some, then for `interval` more, or until somebody waits for them, or for the end.
    func take(after interval: Duration) -> (keys: Set<ContentKey>, held: [BlobUse], isLast: Bool) {
        _ = state.wait { $0.keys.isEmpty && !$0.isHurried && !$0.hasEnded ? nil : true }
        _ = state.wait(until: Deadline(after: interval)) { $0.hasEnded || $0.isHurried ? true : nil }
        return state.withLock { state in
            defer {
                state.keys = []
                state.held = []
            }
            state.isHurried = false
            state.begun += 1
            return (state.keys, state.held, state.hasEnded)
        }
    }

    /// What was taken is flushed, as far as that can be.
    func flushed() { state.update { $0.done = $0.begun } }

    /// Blocks until all that is dirty now was flushed, or could not be, without waiting for the interval.
    func waitUntilFlushed() {
        let wanted = state.update { state in
            state.isHurried = true
            return state.begun + 1
        }
        _ = state.wait { $0.hasEnded || $0.done >= wanted ? true : nil }
    }

    func end() { state.update { $0.hasEnded = true } }
}

/// Syncs what was written, now and then, so that a power cut loses little. A thread of its own.
///
/// Only the files that were written are synced, never the whole file system, which may be a busy host's. Their writing is begun
/// for many at once; then the first sync brings the rest along.
final class Flusher: Sendable {
    /// Files that are synced together.
    private static let batchCount = 256

    private let context: BlobContext
    private let table: BlobTable
    private let isRunning = Guarded(false)

    init(_ context: BlobContext, _ table: BlobTable) {
        self.context = context
        self.table = table
    }

    func start(every interval: Duration) throws(Errno) {
        isRunning.withLock { $0 = true }
        do throws(Errno) { try startThread("mcfs-sync") { [self] in run(every: interval) } } catch {
            isRunning.withLock { $0 = false }
            throw error
        }
    }

    private func run(every interval: Duration) {
        while true {
            let (dirty, held, isLast) = context.dirty.take(after: interval)
            let keys = Array(dirty)
            for start in stride(from: 0, to: keys.count, by: Self.batchCount) {
                flush(keys[start..<min(start + Self.batchCount, keys.count)])
            }
            withExtendedLifetime(held) { context.dirty.flushed() }
            if isLast { break }
        }
        isRunning.update { $0 = false }
    }

    /// Flushes a last time and waits for it.
    func end() {
        context.dirty.end()
        _ = isRunning.wait { $0 ? nil : true }
    }

    private func flush(_ keys: ArraySlice<ContentKey>) {
        // In use meanwhile, so that nobody makes another of the same content.
        let contents = keys.map { table.use($0) }.compactMap { use in use.blob.unsynced.map { (use, $0) } }
        for (_, unsynced) in contents { _ = mcfs_begin_writeback(unsynced.file.descriptor.rawValue) }
        var folders: Set<String> = []
        for (use, unsynced) in contents.reversed() {
            do throws(Errno) {
                _ = try retryingOnInterrupt { fdatasync(unsynced.file.descriptor.rawValue) }
            } catch {
                use.blob.couldNotSync(unsynced, error)
                continue
            }
            switch use.blob.wasSynced(unsynced) {
            case .folder(let folder): folders.insert(folder)
            // What cannot be synced is not known to last, and no more.
            case .map(let map): try? map.sync()
            case nil: break
            }
        }
        for folder in folders { try? context.directory.syncFolder(folder) }
        // A folder that was just made.
        if !folders.isEmpty { try? context.directory.syncFolder("blobs") }
    }
}
