internal import Glibc
internal import MCFSCore

/// A thread for one piece of blocking work, so that the threads that answer requests are never held up.
enum WorkerThread {
    private final class Work {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    /// - Throws: `failed` where the system has no thread left.
    static func start(_ body: @escaping @Sendable () -> Void) throws(MCFSError) {
        let work = Unmanaged.passRetained(Work(body))
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<Work>.fromOpaque(argument).takeRetainedValue().body()
                return nil
            }, work.toOpaque())
        guard code == 0 else {
            work.release()
            throw MCFSError(.failed, "cannot start a thread: \(Errno(rawValue: code))", isTransient: true)
        }
        pthread_detach(thread)
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
