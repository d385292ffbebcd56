import MCFSCore
import Synchronization

/// A part of something bounded, of memory or of the disk, that was promised to somebody. What is left of it is given back when
/// this goes.
final class Reservation: Sendable {
    private let left: Lock<UInt64>
    private let giveBack: @Sendable (UInt64) -> Void

    /// - Parameter giveBack: gets bytes that will not be used.
    init(_ bytes: UInt64, giveBack: @escaping @Sendable (UInt64) -> Void) {
        left = Lock(bytes)
        self.giveBack = giveBack
    }

    deinit { release(.max) }

    /// So much is not needed any more.
    func release(_ bytes: UInt64) {
        let part = take(bytes)
        if part > 0 { giveBack(part) }
    }

    /// Takes at most so much out of it, which is then the caller's. - Returns: how much.
    func take(_ bytes: UInt64) -> UInt64 {
        left.withLock { left in
            let part = min(left, bytes)
            left -= part
            return part
        }
    }
}
