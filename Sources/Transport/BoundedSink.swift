package import MCFSCore
internal import Synchronization

/// Collects a short answer in memory.
package final class BoundedSink: ByteSink {
    private let collected = Lock<[UInt8]>([])
    private let bytesMax: Int
    private let what: String

    package init(bytesMax: Int, what: String) {
        self.bytesMax = bytesMax
        self.what = what
    }

    package var bytes: [UInt8] { collected.withLock { $0 } }

    package func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        let fits = collected.withLock { collected in
            guard bytes.count <= bytesMax - collected.count else { return false }
            collected.append(contentsOf: bytes)
            return true
        }
        guard fits else {
            throw MCFSError(.corrupt, "\(what) is longer than \(bytesMax) bytes, which mcfs does not read")
        }
    }
}
