package import MCFSCore

extension LayerCoding {
    /// Bytes that `init(startingWith:)` wants to see, where the layer has so many.
    static let magicBytesMax = 6

    /// Told by the first bytes, not by the media type: images exist whose media type is wrong.
    ///
    /// - Throws: `unsupported` for other compressions; `name` is what the message calls the layer.
    package init(startingWith bytes: some Collection<UInt8>, name: String) throws(MCFSError) {
        let bytes = Array(bytes.prefix(Self.magicBytesMax))
        if bytes.starts(with: [0x1f, 0x8b]) {
            self = .gzip
        } else if bytes.starts(with: [0x28, 0xb5, 0x2f, 0xfd]) {
            self = .zstd
        } else if bytes.count >= 4, (0x50...0x5f).contains(bytes[0]), bytes[1...3].elementsEqual([0x2a, 0x4d, 0x18]) {
            // A skippable frame comes first.
            self = .zstd
        } else if bytes.starts(with: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]) {
            throw Self.unsupported("xz", name)
        } else if bytes.starts(with: Array("BZh".utf8)) {
            throw Self.unsupported("bzip2", name)
        } else if bytes.starts(with: [0x04, 0x22, 0x4d, 0x18]) {
            throw Self.unsupported("lz4", name)
        } else {
            self = .plain
        }
    }

    private static func unsupported(_ coding: String, _ name: String) -> MCFSError {
        MCFSError(
            .unsupported, "\(name) is compressed with \(coding), which mcfs does not read; use gzip, zstd or none")
    }
}
