import MCFSCore

/// Bytes in memory, freed when the last owner goes.
final class MemoryBuffer: @unchecked Sendable {
    // @unchecked: written by one thread before it is handed on, only read after.
    let bytes: UnsafeMutableRawBufferPointer

    init(count: Int) { bytes = .allocate(byteCount: count, alignment: 16) }

    deinit { bytes.deallocate() }

    var count: Int { bytes.count }
}
