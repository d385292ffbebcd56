import Synchronization
import MCFSCore

/// Who waits for a fetch; the lower, the sooner.
enum FetchPriority: Int, Comparable, CaseIterable {
    /// A reader.
    case demand
    /// What a reader will probably want next.
    case readAhead
    /// Nobody, yet.
    case prefetch

    static func < (a: FetchPriority, b: FetchPriority) -> Bool { a.rawValue < b.rawValue }
}

/// A chunk and where it lies in a source.
struct FetchPiece {
    let use: BlobUse
    let chunk: Int
    /// In the source.
    let range: ByteRange

    /// What it takes on disk, without the map of its content.
    var diskBytes: UInt64 { Space.diskBytes(range.count) }
}

/// One range request to make: pieces in the order of their offsets, each claimed for this job.
final class FetchJob: @unchecked Sendable {
    // @unchecked: `pieces` and `range` change under the queue's lock until a thread takes the job; then that thread alone has it.
    let source: any ByteSource
    var priority: FetchPriority
    private(set) var pieces: [FetchPiece]
    private(set) var range: ByteRange
    /// Called once, when every piece was stored or given up. The error is why the request failed, or why a piece could not be kept.
    let ended: (@Sendable (MCFSError?) -> Void)?

    /// - Parameter pieces: not empty, sorted, not overlapping.
    init(
        _ source: any ByteSource, _ pieces: [FetchPiece], priority: FetchPriority,
        ended: (@Sendable (MCFSError?) -> Void)? = nil
    ) {
        self.source = source
        self.priority = priority
        self.pieces = pieces
        self.ended = ended
        // A source that knows no ranges is read from its first byte.
        let first = source.hasRandomAccess ? pieces[0].range.lowerBound : 0
        range = ByteRange(first, pieces[pieces.count - 1].range.upperBound)
    }

    /// What the pieces take on disk at most, with the maps of their contents.
    var diskBytes: UInt64 {
        var bytes: UInt64 = 0
        var last: Blob?
        for piece in pieces {
            bytes += piece.diskBytes
            if piece.use.blob !== last {
                bytes += MapFile.diskBytes(piece.use.blob.grid, population: pieces.count)
                last = piece.use.blob
            }
        }
        return bytes
    }

    /// Takes over another job that continues this one.
    func append(_ next: FetchJob) {
        pieces += next.pieces
        range.upperBound = next.range.upperBound
        priority = min(priority, next.priority)
    }
}
