internal import Synchronization

/// What the reads of a mount came to, since it was mounted.
package struct ReadStatistics: Sendable, Equatable {
    package var count: UInt64 = 0
    /// Bytes that were answered.
    package var bytes: UInt64 = 0
    /// Reads whose bytes were local.
    package var hits: UInt64 = 0
    /// Reads that waited for a fetch.
    package var misses: UInt64 = 0
    /// Reads that failed, at once or after a wait.
    package var errors: UInt64 = 0

    package init() {}
}

/// Counts without a lock; a snapshot may be torn between two counters.
final class ReadCounters: Sendable {
    private let count = Atomic<UInt64>(0)
    private let bytes = Atomic<UInt64>(0)
    private let hits = Atomic<UInt64>(0)
    private let misses = Atomic<UInt64>(0)
    private let errors = Atomic<UInt64>(0)

    func began() { count.wrappingAdd(1, ordering: .relaxed) }
    func hit() { hits.wrappingAdd(1, ordering: .relaxed) }
    func missed() { misses.wrappingAdd(1, ordering: .relaxed) }
    func answered(_ count: Int) { bytes.wrappingAdd(UInt64(count), ordering: .relaxed) }
    func failed() { errors.wrappingAdd(1, ordering: .relaxed) }

    var snapshot: ReadStatistics {
        var result = ReadStatistics()
        result.count = count.load(ordering: .relaxed)
        result.bytes = bytes.load(ordering: .relaxed)
        result.hits = hits.load(ordering: .relaxed)
        result.misses = misses.load(ordering: .relaxed)
        result.errors = errors.load(ordering: .relaxed)
        return result
    }
}
