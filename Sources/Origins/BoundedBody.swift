internal import MCFSCore
internal import Synchronization

/// Collects a body that is not to be longer than it may be.
final class BoundedBody: ByteSink {
    private let bytesMax: Int
    private let name: String
    private let collected = Lock<[UInt8]>([])

    /// - Parameter name: what the message calls the body.
    init(bytesMax: Int, _ name: String) {
        self.bytesMax = bytesMax
        self.name = name
    }

    var bytes: [UInt8] { collected.withLock { $0 } }

    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        let fits = collected.withLock { collected in
            guard bytes.count <= bytesMax - collected.count else { return false }
            collected.append(contentsOf: bytes)
            return true
        }
        if !fits {
            throw MCFSError(.corrupt, "\(name) is longer than \(bytesMax >> 20) MiB, which no such server sends")
        }
    }
}
