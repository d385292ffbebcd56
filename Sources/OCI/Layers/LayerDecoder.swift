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
    /// - Parameter name: what messages call the layer.
    func decoder(name: String) throws(MCFSError) -> any LayerDecoder {
        switch self {
        case .plain: PlainDecoder()
        case .gzip: try GzipDecoder(name: name)
        case .zstd: try ZstdDecoder(name: name)
        }
    }
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
