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

    private let report: @Sendable (UInt64) -> Void
    private var hash = SHA256()
    private var size: UInt64 = 0
    private var bytes: [UInt8]? = []

    init(report: @escaping @Sendable (UInt64) -> Void) { self.report = report }

    func write(_ piece: UnsafeRawBufferPointer) throws(MCFSError) {
        let isStep = (size + UInt64(piece.count)) / Self.reportStep > size / Self.reportStep
        size += UInt64(piece.count)
        hash.update(bufferPointer: piece)
        if size <= Self.keptBytesMax { bytes?.append(contentsOf: piece) } else { bytes = nil }
        if isStep { report(size) }
    }

    var result: (size: UInt64, digest: MCFSCore.Digest, bytes: [UInt8]?) {
        (size, MCFSCore.Digest(.sha256, hash.finalize()), bytes)
    }
}
