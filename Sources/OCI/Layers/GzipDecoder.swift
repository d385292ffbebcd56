internal import CZlib
internal import MCFSCore

/// gzip members one after the other (RFC 1952), as pigz and eStargz write them. Zeros behind a member are padding.
final class GzipDecoder: LayerDecoder {
    private let name: String
    // zlib keeps a pointer to it, so it must not move.
    private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 64)
    private var isInMember = true

    init(name: String) throws(MCFSError) {
        self.name = name
        stream.initialize(to: z_stream())
        let status = mcfs_inflateInit2(stream, GzipDecoder.windowBits)
        // From here on deinit runs; inflateEnd on a stream that was not set up is harmless.
        guard status == Z_OK else { throw MCFSError(.failed, "cannot set up zlib to read \(name): error \(status)") }
    }

    deinit {
        inflateEnd(stream)
        stream.deallocate()
        buffer.deallocate()
    }

    /// The largest window, and 16 for the gzip format alone.
    private static let windowBits: CInt = 15 + 16

    func decode(
        _ input: [UInt8], into output: (UnsafeRawBufferPointer) throws(MCFSError) -> Bool
    ) throws(MCFSError) {
        try input.withUnsafeBufferPointer { (input) throws(MCFSError) in
            stream.pointee.next_in = UnsafeMutablePointer(mutating: input.baseAddress)
            stream.pointee.avail_in = UInt32(input.count)
            defer { stream.pointee.next_in = nil }
            var wasFull = false
            while stream.pointee.avail_in > 0 || wasFull {
                if !isInMember, !beginMember() { return }
                stream.pointee.next_out = buffer.bindMemory(to: UInt8.self).baseAddress
                stream.pointee.avail_out = UInt32(buffer.count)
                let status = inflate(stream, Z_NO_FLUSH)
                guard status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR else { throw corrupt() }
                let count = buffer.count - Int(stream.pointee.avail_out)
                wasFull = count == buffer.count && status != Z_STREAM_END
                if status == Z_STREAM_END { isInMember = false }
                if count > 0, try !output(UnsafeRawBufferPointer(rebasing: buffer[..<count])) { return }
            }
        }
    }

    func finish() throws(MCFSError) {
        if isInMember { throw MCFSError(.corrupt, "\(name) is truncated: its gzip data end too early; push it again") }
    }

    /// Skips padding; false where nothing else is left of the input.
    private func beginMember() -> Bool {
        while stream.pointee.avail_in > 0, stream.pointee.next_in?.pointee == 0 {
            stream.pointee.next_in = stream.pointee.next_in?.advanced(by: 1)
            stream.pointee.avail_in -= 1
        }
        guard stream.pointee.avail_in > 0 else { return false }
        inflateReset2(stream, Self.windowBits)
        isInMember = true
        return true
    }

    private func corrupt() -> MCFSError {
        let why = stream.pointee.msg.map { String(cString: $0) } ?? "invalid data"
        return MCFSError(.corrupt, "\(name) cannot be decompressed: \(why); push it again")
    }
}
