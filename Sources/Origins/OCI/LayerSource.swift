internal import MCFSCore
internal import OCI
internal import Synchronization

/// A layer as a stored tree names it.
struct LayerSource: Sendable {
    enum Coding: String, Sendable {
        /// The layer is a file.
        case raw
        case tar, gzip, zstd
        /// Compressed, by a program that is found out by reading.
        case compressed
    }

    var digest: Digest
    /// Bytes, as stored at the origin.
    var size: UInt64
    var mediaType: String
    var coding: Coding

    private static let kind = "oci-layer"

    var descriptor: SourceDescriptor {
        SourceDescriptor([
            "kind": Self.kind, "digest": digest.description, "size": String(size), "mediaType": mediaType,
            "coding": coding.rawValue,
        ])
    }

    init(_ layer: Descriptor, _ coding: Coding) {
        digest = layer.digest
        size = layer.size
        mediaType = layer.mediaType
        self.coding = coding
    }

    /// nil for what `descriptor` cannot have made.
    init?(_ descriptor: SourceDescriptor) {
        guard descriptor["kind"] == Self.kind, let digest = descriptor["digest"].flatMap({ Digest($0) }),
            let size = descriptor["size"].flatMap({ UInt64($0) }),
            let coding = descriptor["coding"].flatMap(Coding.init(rawValue:))
        else { return nil }
        self.digest = digest
        self.size = size
        self.coding = coding
        mediaType = descriptor["mediaType"] ?? ""
    }
}

/// A compressed layer whose coding is found out by its first read: media types are not to be trusted.
final class SniffedSource: ByteSource {
    private let base: any ByteSource
    private let size: UInt64
    private let digest: Digest
    private let decompressed = Mutex<DecompressedSource?>(nil)

    init(_ base: any ByteSource, size: UInt64, digest: Digest) {
        self.base = base
        self.size = size
        self.digest = digest
    }

    var name: String { base.name }
    var hasRandomAccess: Bool { false }

    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        try source(deadline).read(range, deadline: deadline, into: sink)
    }

    private func source(_ deadline: Deadline) throws(MCFSError) -> DecompressedSource {
        if let source = decompressed.withLock({ $0 }) { return source }
        let head = HeadSink()
        try base.read(ByteRange(0, min(4, size)), deadline: deadline, into: head)
        let coding = try LayerCoding(startingWith: head.bytes, name: name)
        return decompressed.withLock { decompressed in
            let source = decompressed ?? DecompressedSource(base, size: size, coding: coding, digest: digest)
            decompressed = source
            return source
        }
    }

    private final class HeadSink: ByteSink {
        private let collected = Mutex<[UInt8]>([])

        var bytes: [UInt8] { collected.withLock { $0 } }

        func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
            collected.withLock { $0.append(contentsOf: bytes) }
        }
    }
}
