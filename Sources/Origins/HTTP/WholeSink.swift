internal import Crypto
internal import MCFSCore

/// Takes a file of unknown size: its size, its digest, and its bytes while they are few.
///
/// `@unchecked`: a sink is never called concurrently, and the end of a transfer comes after its last call.
final class WholeSink: ByteSink, @unchecked Sendable {
    /// Bytes that are kept in memory; a longer file is read again when it is used.
    static let keptBytesMax = 16 << 20
    /// Bytes between two reports.
    private static let reportStep: UInt64 = 1 << 20

    private let name: String
    private let report: @Sendable (UInt64) -> Void
    private var hash = SHA256()
    private var size: UInt64 = 0
    private var bytes: [UInt8]? = []

    /// - Parameter name: what messages call the file.
    init(_ name: String, report: @escaping @Sendable (UInt64) -> Void) {
        self.name = name
        self.report = report
    }

    func write(_ piece: UnsafeRawBufferPointer) throws(MCFSError) {
        let before = size
        size.addClamped(UInt64(piece.count))
        try OutsideNumber.check(byteCount: size, of: name)
        let isStep = size / Self.reportStep > before / Self.reportStep
        hash.update(bufferPointer: piece)
        if size <= Self.keptBytesMax { bytes?.append(contentsOf: piece) } else { bytes = nil }
        if isStep { report(size) }
    }

    var result: (size: UInt64, digest: MCFSCore.Digest, bytes: [UInt8]?) {
        (size, MCFSCore.Digest(.sha256, hash.finalize()), bytes)
    }
}
