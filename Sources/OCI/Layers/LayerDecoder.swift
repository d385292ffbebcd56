internal import MCFSCore

/// Turns the bytes of a layer, piece by piece, into those of its tar. Not thread safe.
protocol LayerDecoder: AnyObject {
    /// Decodes all of `input`; calls `output` with consecutive pieces, which are the callee's only during the call.
    /// Stops early when it returns false.
    ///
    /// - Throws: `corrupt` for input that cannot be decoded, and what `output` throws.
    func decode(
        _ input: [UInt8], into output: (UnsafeRawBufferPointer) throws(MCFSError) -> Bool
    ) throws(MCFSError)

    /// - Throws: `corrupt` where more input had to come.
    func finish() throws(MCFSError)
}

extension LayerCoding {
    /// - Parameters:
    ///   - name: what messages call the layer.
    ///   - deadline: of waiting for memory.
    func decoder(name: String, _ zstdWindow: ZstdWindow, _ deadline: Deadline) throws(MCFSError) -> any LayerDecoder {
        switch self {
        case .plain: PlainDecoder()
        case .gzip: BoundedDecoder(try GzipDecoder(name: name), name: name)
        case .zstd: BoundedDecoder(try ZstdDecoder(name: name, zstdWindow, deadline), name: name)
        }
    }
}

/// Refuses what is next to nothing and unpacks to next to everything.
final class BoundedDecoder: LayerDecoder {
    /// So many bytes may come of anything.
    private static let freeBytes: UInt64 = 1 << 30
    /// Beyond that, at most so many for each that went in. Deflate makes 1032 of one at most, of zeros.
    private static let ratioMax: UInt64 = 500

    private let base: any LayerDecoder
    private let name: String
    private let freeBytes: UInt64
    private var taken: UInt64 = 0
    private var given: UInt64 = 0

    init(_ base: any LayerDecoder, name: String, freeBytes: UInt64 = BoundedDecoder.freeBytes) {
        self.base = base
        self.name = name
        self.freeBytes = freeBytes
    }

    func decode(
        _ input: [UInt8], into output: (UnsafeRawBufferPointer) throws(MCFSError) -> Bool
    ) throws(MCFSError) {
        taken += UInt64(input.count)
        try base.decode(input) { (piece) throws(MCFSError) in
            given += UInt64(piece.count)
            guard given <= freeBytes || given / Self.ratioMax <= taken else {
                throw MCFSError(
                    .unsupported,
                    "\(name) unpacks to more than \(Self.ratioMax) times its size, which mcfs takes for an attack; push it uncompressed"
                )
            }
            return try output(piece)
        }
    }

    func finish() throws(MCFSError) { try base.finish() }
}

/// For layers that are not compressed.
final class PlainDecoder: LayerDecoder {
    func decode(
        _ input: [UInt8], into output: (UnsafeRawBufferPointer) throws(MCFSError) -> Bool
    ) throws(MCFSError) {
        _ = try input.withUnsafeBufferPointer { (buffer) throws(MCFSError) in try output(UnsafeRawBufferPointer(buffer))
        }
    }

    func finish() throws(MCFSError) {}
}
