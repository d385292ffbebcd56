internal import Synchronization

/// Counts the exchanges of the clients that it was given to, until it is closed. Thread safe.
package final class TrafficMeter: Sendable {
    private let parent: TrafficMeter?
    private let requestCount = Atomic<UInt64>(0)
    private let byteCount = Atomic<UInt64>(0)
    private let isClosed = Atomic(false)

    /// - Parameter parent: counts the same.
    package init(parent: TrafficMeter? = nil) { self.parent = parent }

    package var requests: UInt64 { requestCount.load(ordering: .relaxed) }
    /// Bytes of the bodies that came.
    package var bytes: UInt64 { byteCount.load(ordering: .relaxed) }

    /// What comes from now on is counted elsewhere.
    package func close() { isClosed.store(true, ordering: .relaxed) }

    func countRequest() {
        if isClosed.load(ordering: .relaxed) { return }
        requestCount.add(1, ordering: .relaxed)
        parent?.countRequest()
    }

    func count(_ bytes: Int) {
        if isClosed.load(ordering: .relaxed) { return }
        byteCount.add(UInt64(bytes), ordering: .relaxed)
        parent?.count(bytes)
    }
}
