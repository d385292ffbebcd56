internal import Glibc
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
        try startThread {
            let result: Result<Void, MCFSError>
            do throws(MCFSError) {
                try source.read(range, deadline: deadline, into: queue)
                result = .success(())
            } catch {
                result = .failure(error)
            }
            queue.finish(result)
        }
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

    private final class Work: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    private static func startThread(_ body: @escaping @Sendable () -> Void) throws(MCFSError) {
        let work = Unmanaged.passRetained(Work(body))
        var thread = pthread_t()
        let error = pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<Work>.fromOpaque(argument).takeRetainedValue().body() }
                return nil
            }, work.toOpaque())
        guard error == 0 else {
            work.release()
            throw MCFSError(.failed, "cannot start a thread: \(Errno(rawValue: error))", cause: Errno(rawValue: error))
        }
        pthread_detach(thread)
    }
}
