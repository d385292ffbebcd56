internal import MCFSCore

/// Reads a range of a source on a thread of its own and hands the bytes to the calling one, which may take its time:
/// the thread that brings them serves others too.
enum ByteStream {
    /// Bytes that may wait between the two threads.
    static let queueBytesMax = 8 << 20

    /// Calls `body` with consecutive pieces on the calling thread until the range ends or `body` returns false.
    ///
    /// The reading thread is not waited for when `body` fails or has enough: it ends with its next piece or the
    /// source's own deadline.
    static func read(
        _ source: any ByteSource, _ range: ByteRange, deadline: Deadline,
        _ body: ([UInt8]) throws(MCFSError) -> Bool
    ) throws(MCFSError) {
        let queue = ByteQueue(name: source.name, bytesMax: queueBytesMax, deadline: deadline)
        do throws(Errno) {
            try startThread("mcfs-layer") {
                queue.finish(
                    Result { () throws(MCFSError) in try source.read(range, deadline: deadline, into: queue) })
            }
        } catch { throw MCFSError(noThread: error) }
        defer { queue.cancel() }
        while let pieces = try queue.next() {
            for piece in pieces {
                if deadline.hasPassed {
                    throw MCFSError(.timedOut, "\(source.name) could not be read in time", isTransient: true)
                }
                guard try body(piece) else { return }
            }
        }
    }
}
