package import MCFSCore
import Synchronization

/// Keeps what it gets; fails when it would hold more than `limit` bytes.
package final class CollectingSink: ByteSink {
    package static let failure = MCFSError(.noSpace, "the sink is full")

    private let collected = Lock<[UInt8]>([])
    private let limit: Int

    package init(limit: Int = .max) { self.limit = limit }

    package var bytes: [UInt8] { collected.withLock { $0 } }

    package func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        let isFull = collected.withLock { collected in
            if collected.count + bytes.count > limit { return true }
            collected.append(contentsOf: bytes)
            return false
        }
        if isFull { throw Self.failure }
    }
}

/// Bytes that differ from place to place.
package func pattern(_ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
}

extension Deadline {
    /// Long enough for anything that works.
    package static var soon: Deadline { Deadline(after: .seconds(30)) }
}
