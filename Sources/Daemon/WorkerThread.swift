internal import MCFSCore

/// A thread for one piece of blocking work, so that the threads that answer requests are never held up.
enum WorkerThread {
    /// - Throws: `failed` where the system has no thread left.
    static func start(_ body: @escaping @Sendable () -> Void) throws(MCFSError) {
        do throws(Errno) { try startThread("mcfs-request", body) } catch { throw MCFSError(noThread: error) }
    }

    /// Runs blocking work from an async place.
    static func run<Value: Sendable>(
        _ body: @escaping @Sendable () throws(MCFSError) -> Value
    ) async throws(MCFSError) -> Value {
        let result: Result<Value, MCFSError> = await withCheckedContinuation { continuation in
            do throws(MCFSError) {
                try start {
                    do throws(MCFSError) { continuation.resume(returning: .success(try body())) } catch {
                        continuation.resume(returning: .failure(error))
                    }
                }
            } catch { continuation.resume(returning: .failure(error)) }
        }
        return try result.get()
    }
}
