import Synchronization
import MCFSCore

/// The last chunks that could not be kept on disk, in memory: a reader asks for a chunk in several reads, and each must
/// not go to the origin again. Empty unless the disk or the cache's bound is full.
final class Overflow: Sendable {
    static let bytesMax = 16 << 20

    private struct Entry: Sendable {
        let key: ContentKey
        let chunk: Int
        let buffer: MemoryBuffer
    }

    private let entries = Lock<[Entry]>([])

    func add(_ key: ContentKey, _ chunk: Int, _ buffer: MemoryBuffer) {
        entries.withLock { entries in
            entries.removeAll { $0.key == key && $0.chunk == chunk }
            entries.append(Entry(key: key, chunk: chunk, buffer: buffer))
            var sum = entries.reduce(0) { $0 + $1.buffer.count }
            while sum > Self.bytesMax, entries.count > 1 { sum -= entries.removeFirst().buffer.count }
        }
    }

    func find(_ key: ContentKey, _ chunk: Int) -> MemoryBuffer? {
        entries.withLock { entries in
            entries.isEmpty ? nil : entries.last { $0.key == key && $0.chunk == chunk }?.buffer
        }
    }

    func remove(_ key: ContentKey) { entries.withLock { $0.removeAll { $0.key == key } } }
}
