import MCFSCore
import Synchronization

/// Hashing, in slices on threads of its own: from memory while a chunk is there, else from the file. One thread at a time
/// hashes a content.
extension Blob {
    /// Bytes that are hashed before other contents get their turn.
    private static let sliceBytes: UInt64 = 4 << 20
    /// Bytes of a content that stay in memory to be hashed.
    private static let unhashedBytesMax: UInt64 = 4 << 20

    /// Keeps a chunk for its hash if its turn comes soon. - Returns: whether `hashLater` must be called.
    func keepForHashing(_ chunk: Int, _ buffer: MemoryBuffer, _ state: inout State) -> Bool {
        guard !state.isComplete, let count = state.file?.hashing?.count else { return false }
        let room = Int(Self.unhashedBytesMax / grid.chunkSize)
        // Only what will be hashed soon: all before it is there.
        if chunk >= count, chunk < count + room, state.present.containsAll(count..<chunk) {
            state.unhashed[chunk] = buffer
        }
        guard !state.isHashing, count == grid.chunkCount || state.present[count] else { return false }
        state.isHashing = true
        return true
    }

    /// Hashes what was loaded and must be judged.
    func judgeLoaded() {
        let isJudged = state.withLock { state in
            guard !state.isHashing, state.doubt != nil || (!state.isComplete && hasDigest && state.present.isFull)
            else {
                return true
            }
            state.isHashing = true
            return false
        }
        if !isJudged { hashLater() }
    }

    func hashLater() {
        // The content must stay the one of its table meanwhile.
        guard let use = context.table?.hold(self) else { return state.withLock { $0.isHashing = false } }
        context.hashing.add { use.blob.hashSlice(use) }
    }

    private struct Slice {
        var file: StoredFile
        var hashing: StoredFile.Hashing
        var grid: ChunkGrid
        var chunks: Range<Int>
        var buffers: [Int: MemoryBuffer] = [:]
        var doubt: Doubt?
    }

    private func hashSlice(_ use: BlobUse) {
        guard let slice = state.withLock({ nextSlice(&$0) }) else { return }
        slice.hashing.add(slice.chunks.count) { hasher in
            for chunk in slice.chunks {
                if let buffer = slice.buffers[chunk] {
                    hasher.update(UnsafeRawBufferPointer(buffer.bytes))
                } else {
                    // A read error hashes to something wrong, and is found at the end.
                    try? hasher.update(slice.file.descriptor, slice.grid.range(of: chunk))
                }
            }
        }
        guard slice.hashing.count == slice.grid.chunkCount else {
            return context.hashing.add { use.blob.hashSlice(use) }
        }
        let digest = slice.hashing.takeDigest()
        state.withLock { $0.isHashing = false }
        // Taken already: it is being judged.
        guard let digest else { return }
        let isRight = digest == id.bytes
        write { [self] in
            // In its table until then.
            defer { withExtendedLifetime(use) {} }
            if let doubt = slice.doubt { judge(doubt, isRight: isRight) } else { judge(slice.file, isRight: isRight) }
        }
    }

    /// - Returns: nil where there is nothing to hash now.
    private func nextSlice(_ state: inout State) -> Slice? {
        if let doubt = state.doubt, let hashing = doubt.file.hashing {
            let grid = ChunkGrid(size: doubt.size, chunkSize: Self.sliceBytes)
            let count = hashing.count
            return Slice(
                file: doubt.file, hashing: hashing, grid: grid, chunks: count..<min(count + 1, grid.chunkCount),
                doubt: doubt)
        }
        guard !state.isComplete, let file = state.file, let hashing = file.hashing else {
            state.isHashing = false
            return nil
        }
        let first = hashing.count
        let most = first + max(1, Int(Self.sliceBytes / grid.chunkSize))
        var end = first
        while end < min(most, grid.chunkCount), state.present[end] { end += 1 }
        // All may be hashed already, by an earlier start, and only the digest be missing.
        guard end > first || first == grid.chunkCount else {
            state.isHashing = false
            return nil
        }
        var slice = Slice(file: file, hashing: hashing, grid: grid, chunks: first..<end)
        for chunk in slice.chunks { slice.buffers[chunk] = state.unhashed.removeValue(forKey: chunk) }
        return slice
    }
}
