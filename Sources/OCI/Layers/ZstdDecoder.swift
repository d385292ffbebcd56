internal import CZstd
internal import MCFSCore

/// Zstandard frames one after the other, skippable ones among them (RFC 8878).
final class ZstdDecoder: LayerDecoder {
    private let name: String
    private let window: ZstdWindow
    private let memory: ZstdWindowMemory
    private let deadline: Deadline
    private var stream: OpaquePointer
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 64)
    private var isInFrame = false
    /// The first bytes of a frame, too few to tell what it needs.
    private var head: [UInt8] = []
    /// Bytes of the largest window so far, where it counts: the decoder keeps it.
    private var taken: UInt64 = 0

    /// - Parameter deadline: of waiting for memory.
    init(
        name: String, _ window: ZstdWindow, _ deadline: Deadline, memory: ZstdWindowMemory = .shared
    ) throws(MCFSError) {
        self.name = name
        self.window = window
        self.memory = memory
        self.deadline = deadline
        guard let stream = Self.makeStream() else {
            buffer.deallocate()
            throw Self.noMemory(name)
        }
        self.stream = stream
    }

    private static func makeStream() -> OpaquePointer? {
        guard let stream = ZSTD_createDStream() else { return nil }
        // The memory is taken only where a frame asks for it; `checkWindow` says whether it may.
        ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax, 31)
        return stream
    }

    private static func noMemory(_ name: String) -> MCFSError {
        MCFSError(.failed, "cannot set up zstd to read \(name): no memory")
    }

    deinit {
        ZSTD_freeDStream(stream)
        buffer.deallocate()
        if taken > 0 { memory.give(taken) }
    }

    func decode(
        _ input: [UInt8], into output: (UnsafeRawBufferPointer) throws(MCFSError) -> Bool
    ) throws(MCFSError) {
        var rest = head.isEmpty ? input[...] : (head + input)[...]
        head = []
        while !rest.isEmpty {
            if !isInFrame {
                guard let bytes = ZstdWindow.bytes(of: rest) else {
                    head = Array(rest)
                    return
                }
                try checkWindow(bytes)
            }
            let (used, goesOn) = try decodeFrame(rest, output)
            guard goesOn else { return }
            rest = rest.dropFirst(used)
        }
    }

    /// Decodes up to the end of the frame, or of the input.
    ///
    /// - Returns: bytes of `input` that were used, and whether more output is wanted.
    private func decodeFrame(
        _ input: ArraySlice<UInt8>, _ output: (UnsafeRawBufferPointer) throws(MCFSError) -> Bool
    ) throws(MCFSError) -> (used: Int, goesOn: Bool) {
        try input.withUnsafeBufferPointer { (input) throws(MCFSError) in
            var source = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
            while true {
                var target = ZSTD_outBuffer(dst: buffer.baseAddress, size: buffer.count, pos: 0)
                let status = ZSTD_decompressStream(stream, &target, &source)
                guard ZSTD_isError(status) == 0 else {
                    let why = String(cString: ZSTD_getErrorName(status))
                    throw MCFSError(.corrupt, "\(name) cannot be decompressed: \(why); push it again")
                }
                isInFrame = status != 0
                if target.pos > 0, try !output(UnsafeRawBufferPointer(rebasing: buffer[..<target.pos])) {
                    return (source.pos, false)
                }
                if !isInFrame || source.pos == source.size && target.pos < target.size { return (source.pos, true) }
            }
        }
    }

    /// - Throws: `unsupported` for a frame that needs more memory than one may; `timedOut` where others have too much of it.
    private func checkWindow(_ bytes: UInt64) throws(MCFSError) {
        guard bytes <= 1 << UInt64(window.log) else {
            throw MCFSError(
                .unsupported,
                "\(name) needs \(bytes >> 20) MiB of memory to be unpacked (a zstd window); pack it with --long=\(window.log) or less, or set \(ZstdWindow.variable)"
            )
        }
        guard bytes > ZstdWindowMemory.smallBytesMax, bytes > taken else { return }
        // Given back before more is taken: two that each wait for the other's would wait for ever.
        if taken > 0 {
            guard let fresh = Self.makeStream() else { throw Self.noMemory(name) }
            ZSTD_freeDStream(stream)
            stream = fresh
            memory.give(taken)
            taken = 0
        }
        guard memory.take(bytes, until: deadline) else {
            throw MCFSError(
                .timedOut, "\(name) could not be unpacked in time: others unpack with large zstd windows",
                isTransient: true)
        }
        taken = bytes
    }

    func finish() throws(MCFSError) {
        if isInFrame || !head.isEmpty {
            throw MCFSError(.corrupt, "\(name) is truncated: its zstd data end too early; push it again")
        }
    }
}
