internal import CZstd
internal import MCFSCore

/// Zstandard frames one after the other, skippable ones among them (RFC 8878).
final class ZstdDecoder: LayerDecoder {
    private let name: String
    private let stream: OpaquePointer
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 64)
    private var isInFrame = false

    init(name: String) throws(MCFSError) {
        self.name = name
        guard let stream = ZSTD_createDStream() else {
            buffer.deallocate()
            throw MCFSError(.failed, "cannot set up zstd to read \(name): no memory")
        }
        self.stream = stream
        // Layers made with `--long=31` exist; the memory is taken only where a frame asks for it.
        ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax, 31)
    }

    deinit {
        ZSTD_freeDStream(stream)
        buffer.deallocate()
    }

    func decode(
        _ input: [UInt8], into output: (UnsafeRawBufferPointer) throws(MCFSError) -> Bool
    ) throws(MCFSError) {
        try input.withUnsafeBufferPointer { (input) throws(MCFSError) in
            var source = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
            var wasFull = false
            while source.pos < source.size || wasFull {
                var target = ZSTD_outBuffer(dst: buffer.baseAddress, size: buffer.count, pos: 0)
                let status = ZSTD_decompressStream(stream, &target, &source)
                guard ZSTD_isError(status) == 0 else {
                    let why = String(cString: ZSTD_getErrorName(status))
                    throw MCFSError(.corrupt, "\(name) cannot be decompressed: \(why); push it again")
                }
                isInFrame = status != 0
                wasFull = target.pos == target.size && isInFrame
                if target.pos > 0, try !output(UnsafeRawBufferPointer(rebasing: buffer[..<target.pos])) { return }
            }
        }
    }

    func finish() throws(MCFSError) {
        if isInFrame { throw MCFSError(.corrupt, "\(name) is truncated: its zstd data end too early; push it again") }
    }
}
