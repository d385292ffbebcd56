internal import MCFSCore
internal import Synchronization

/// Collects a short answer in memory.
final class BoundedSink: ByteSink {
    private let collected = Lock<[UInt8]>([])
    private let bytesMax: Int
    private let what: String

    init(bytesMax: Int, what: String) {
        self.bytesMax = bytesMax
        self.what = what
    }

    var bytes: [UInt8] { collected.withLock { $0 } }

    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
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
