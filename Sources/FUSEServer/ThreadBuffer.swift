internal import Glibc

/// One reusable buffer per thread, for replies: a read that hits allocates nothing, and no thread touches fresh pages
/// for every megabyte it copies.
enum ThreadBuffer {
    /// Largest read or listing that the kernel asks for, in bytes (256 pages).
    static let size = 1 << 20

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        let result = pthread_key_create(&key) { free($0) }
        precondition(result == 0, "a process has room for one more thread-specific key")
        return key
    }()

    /// The calling thread's buffer, of `count` bytes, valid during the call; not to be nested. nil where there is no memory.
    static func with<R>(_ count: Int, _ body: (UnsafeMutableRawBufferPointer) -> R) -> R? {
        if count > size {
            guard let memory = malloc(count) else { return nil }
            defer { free(memory) }
            return body(UnsafeMutableRawBufferPointer(start: memory, count: count))
        }
        guard let memory = pthread_getspecific(key) ?? make() else { return nil }
        return body(UnsafeMutableRawBufferPointer(start: memory, count: count))
    }

    private static func make() -> UnsafeMutableRawPointer? {
        var memory: UnsafeMutableRawPointer?
        guard posix_memalign(&memory, 4096, size) == 0, let memory else { return nil }
        guard pthread_setspecific(key, memory) == 0 else {
            free(memory)
            return nil
        }
        return memory
    }
}
