package import MCFSCore

/// A compressed layer as its uncompressed tar. Offsets are in the tar; there is no way to a byte but through all before it.
package final class DecompressedSource: ByteSource {
    private let base: any ByteSource
    private let size: UInt64
    private let coding: LayerCoding?
    private let digest: Digest
    private let zstdWindow: ZstdWindow

    /// - Parameters:
    ///   - size: bytes of `base`, the layer as it is stored.
    ///   - coding: nil where the first bytes have to tell.
    ///   - digest: of the layer as it is stored.
    package init(
        _ base: any ByteSource, size: UInt64, coding: LayerCoding?, digest: Digest,
        zstdWindow: ZstdWindow = ZstdWindow()
    ) {
        self.base = base
        self.size = size
        self.coding = coding
        self.digest = digest
        self.zstdWindow = zstdWindow
    }

    package var name: String { base.name }
    package var origin: String { base.origin }
    package var retryCount: UInt64 { base.retryCount }
    package var silence: SourceSilence? { base.silence }
    package var hasRandomAccess: Bool { false }

    /// Streams the layer from its first byte and stops when the range is delivered.
    ///
    /// - Throws: `corrupt` where the layer cannot be decompressed or is shorter; also, after delivery, where the layer
    ///   was read to its end and is not what its digest stands for.
    package func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        guard !range.isEmpty else { return }
        let name = "layer \(digest)"
        var decoder = try coding?.decoder(name: name, zstdWindow, deadline)
        var head: [UInt8] = []
        var check = DigestCheck(digest, size: size)
        var offset: UInt64 = 0
        if size > 0 {
            try ByteStream.read(base, ByteRange(0, size), deadline: deadline) { (piece) throws(MCFSError) in
                check.update(piece)
                var piece = piece
                if decoder == nil {
                    head += piece
                    guard head.count >= LayerCoding.magicBytesMax || check.isComplete else { return true }
                    decoder = try LayerCoding(startingWith: head, name: name).decoder(
                        name: name, zstdWindow, deadline)
                    piece = head
                }
                try decoder?.decode(piece) { (output) throws(MCFSError) in
                    let part = ByteRange(offset: offset, count: UInt64(output.count)).clamped(to: range)
                    if !part.isEmpty {
                        let start = Int(part.lowerBound - offset)
                        try sink.waitForRoom(until: deadline, name)
                        try sink.write(UnsafeRawBufferPointer(rebasing: output[start..<start + Int(part.count)]))
                    }
                    offset += UInt64(output.count)
                    return offset < range.upperBound
                }
                return offset < range.upperBound
            }
        }
        if check.isComplete || offset < range.upperBound { try check.verify() }
        guard offset >= range.upperBound else {
            try decoder?.finish()
            throw MCFSError(
                .corrupt,
                "layer \(digest) ends at byte \(offset) of its tar where a file in it needs \(range.upperBound); push it again"
            )
        }
    }
}
