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
    /// Of a prefetch.
    let group: FetchGroup?
    /// What the request brought, in bytes, and how long it took.
    var received: UInt64 = 0
    var duration = Duration.zero

    /// - Parameter pieces: not empty, sorted, not overlapping.
    init(
        _ source: any ByteSource, _ pieces: [FetchPiece], priority: FetchPriority, group: FetchGroup? = nil
    ) {
        self.source = source
        self.priority = priority
        self.pieces = pieces
        self.group = group
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

    /// Whether nobody wants it any more.
    var isAbandoned: Bool { priority == .prefetch && group?.isCancelled ?? false }

    /// Cuts off what lies beyond the first `bytes`, but for one piece at least. - Returns: the rest; nil where there is none.
    func split(after bytes: UInt64) -> FetchJob? {
        guard source.hasRandomAccess, range.count > bytes else { return nil }
        let end = range.lowerBound.addingClamped(bytes)
        let count = max(1, pieces.firstIndex { $0.range.upperBound > end } ?? pieces.count)
        guard count < pieces.count else { return nil }
        let rest = FetchJob(source, Array(pieces[count...]), priority: priority, group: group)
        group?.add(1)
        pieces.removeSubrange(count...)
        range.upperBound = pieces[count - 1].range.upperBound
        return rest
    }

    /// Takes over another job that continues this one.
    func append(_ next: FetchJob) {
        pieces += next.pieces
        range.upperBound = next.range.upperBound
        priority = min(priority, next.priority)
    }
}
