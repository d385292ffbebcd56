import MCFSCore
import Synchronization

/// Bytes in memory, freed when the last owner goes.
final class MemoryBuffer: @unchecked Sendable {
    // @unchecked: written by one thread before it is handed on, only read after.
    let bytes: UnsafeMutableRawBufferPointer
    private let pool: BufferPool?

    init(count: Int, pool: BufferPool? = nil) {
        self.pool = pool
        bytes = pool?.take(count) ?? .allocate(byteCount: count, alignment: 16)
    }

    deinit { if pool?.give(bytes) != true { bytes.deallocate() } }

    var count: Int { bytes.count }
}

/// Buffers of one chunk that were used and will be again: fresh memory costs a page fault for each of its pages, and what many threads
/// allocate and free piles up in the allocator.
final class BufferPool: Sendable {
    /// Addresses of buffers that belong to nobody else.
    private let free = Lock<[UInt]>([])
    private let bufferBytes: Int
    private let buffersMax: Int

    init(bufferBytes: Int, bytesMax: Int) {
        self.bufferBytes = bufferBytes
        buffersMax = bytesMax / max(bufferBytes, 1)
    }

    deinit { for address in free.withLock({ $0 }) { UnsafeMutableRawPointer(bitPattern: address)?.deallocate() } }

    /// nil where the size is not the pool's, or nothing is free.
    func take(_ count: Int) -> UnsafeMutableRawBufferPointer? {
        guard count == bufferBytes, let address = free.withLock({ $0.popLast() }) else { return nil }
        return UnsafeMutableRawBufferPointer(start: UnsafeMutableRawPointer(bitPattern: address), count: count)
    }

    /// - Returns: whether the pool keeps it.
    func give(_ buffer: UnsafeMutableRawBufferPointer) -> Bool {
        guard buffer.count == bufferBytes, let start = buffer.baseAddress else { return false }
        let address = UInt(bitPattern: start)
        return free.withLock { free in
            guard free.count < buffersMax else { return false }
            free.append(address)
            return true
        }
    }
}
