internal import MCFSCore
internal import Synchronization

/// Keeps the bytes of one read in memory.
final class CollectedBytes: ByteSink {
    private let bytes = Lock<[UInt8]>([])
    private let count: Int

    /// - Parameter count: bytes that may come.
    init(count: Int) { self.count = count }

    func write(_ piece: UnsafeRawBufferPointer) throws(MCFSError) {
        let fits = bytes.withLock { bytes in
            guard piece.count <= count - bytes.count else { return false }
            bytes.append(contentsOf: piece)
            return true
        }
        if !fits { throw MCFSError(.originUnavailable, "more bytes came than were asked for", isTransient: true) }
    }

    func take() -> [UInt8] {
        bytes.withLock { bytes in
            defer { bytes = [] }
            return bytes
        }
    }
}

extension ByteSource {
    /// The bytes of a range that is small enough for memory.
    func bytes(_ range: ByteRange, deadline: Deadline) throws(MCFSError) -> [UInt8] {
        let sink = CollectedBytes(count: Int(range.count))
        try read(range, deadline: deadline, into: sink)
        let bytes = sink.take()
        guard UInt64(bytes.count) == range.count else {
            throw MCFSError(
                .originUnavailable, "\(name) gave \(bytes.count) bytes where \(range.count) were asked for",
                isTransient: true)
        }
        return bytes
    }
}
