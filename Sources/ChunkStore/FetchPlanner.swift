import MCFSCore

/// Turns chunks that somebody wants into range requests, and claims them. What lies beside them in the same source comes
/// along where it is small: a walk over a layer of small files makes one request a window, not one a file.
struct FetchPlanner: Sendable {
    /// Contents up to this size are fetched with their neighbours, in bytes.
    let smallContentMax: UInt64
    /// The fixed windows of a source in which small contents are fetched, in bytes.
    static let windowBytes: UInt64 = 4 << 20
    /// A hole between two pieces up to this size is fetched rather than split the request, in bytes.
    static let gapMax: UInt64 = 128 << 10
    /// Of a prefetch, whose readers wait for none of it: holes up to this size, in bytes …
    static let prefetchGapMax: UInt64 = 4 << 10
    /// … and larger ones while all of them together are at most this part of the pieces.
    static let prefetchGapShare: UInt64 = 8
    /// Most chunks of one content that are claimed for one stream; 64 GiB of chunks of 1 MiB.
    static let streamChunksMax: UInt64 = 1 << 16

    let table: BlobTable
    let space: Space

    /// The jobs that bring `chunks` of a content; the first one serves the reader. Chunks that are claimed by others are left out.
    ///
    /// - Parameter rangeBytesMax: longest range of one request.
    func jobs(
        for chunks: [Int], of use: BlobUse, _ content: FileContent, priority: FetchPriority,
        rangeBytesMax: UInt64 = FetchQueue.rangeBytesMax
    ) -> [FetchJob] {
        guard content.source.hasRandomAccess else {
            // The whole source comes by: take all that is missing of it. Of a content that is said to have more chunks than that,
            // what is wanted and a while of what follows.
            var range = ByteRange(0, .max)
            let most = Self.streamChunksMax * use.blob.grid.chunkSize
            if content.size > most, let first = chunks.first {
                range = ByteRange(offset: content.offset + use.blob.grid.range(of: first).lowerBound, count: most)
            }
            let all = pieces(in: range, of: content)
            return all.isEmpty ? [] : [FetchJob(content.source, all, priority: priority)]
        }
        var wanted: [FetchPiece] = []
        for chunk in chunks where !use.blob.claim(chunk..<chunk + 1, from: content.source).isEmpty {
            wanted.append(piece(use, chunk, content.offset))
        }
        guard let first = wanted.first else { return [] }
        guard content.layout != nil, content.size <= smallContentMax else {
            return split(wanted, content.source, priority, rangeBytesMax: rangeBytesMax)
        }
        // From the wanted file to the end of its window first: its bytes lead. Then what lies before it.
        let start = first.range.lowerBound / Self.windowBytes * Self.windowBytes
        let end = max(start + Self.windowBytes, wanted[wanted.count - 1].range.upperBound)
        let after = wanted + pieces(in: ByteRange(wanted[wanted.count - 1].range.upperBound, end), of: content)
        let before = pieces(in: ByteRange(start, first.range.lowerBound), of: content)
        return split(after, content.source, priority)
            + split(before, content.source, priority == .demand ? .readAhead : priority)
    }

    /// Claims what is missing of `contents`, all of one source, and makes jobs of it.
    func jobs(
        prefetching contents: [FileContent], for group: FetchGroup
    ) -> [FetchJob] {
        guard let source = contents.first?.source else { return [] }
        var pieces: [FetchPiece] = []
        for content in contents.sorted(by: { $0.offset < $1.offset }) where !isComplete(content.key) {
            let use = table.use(content.key)
            pieces += use.blob.claim(0..<use.blob.grid.chunkCount, from: source).map { piece(use, $0, content.offset) }
        }
        if pieces.isEmpty { return [] }
        guard source.hasRandomAccess else { return [FetchJob(source, pieces, priority: .prefetch, group: group)] }
        return split(pieces, source, .prefetch, group: group)
    }

    private func piece(_ use: BlobUse, _ chunk: Int, _ offset: UInt64) -> FetchPiece {
        let range = use.blob.grid.range(of: chunk)
        return FetchPiece(
            use: use, chunk: chunk, range: ByteRange(offset + range.lowerBound, offset + range.upperBound))
    }

    /// Claims the missing chunks that lie in `range` of the source as a whole.
    private func pieces(in range: ByteRange, of content: FileContent) -> [FetchPiece] {
        guard !range.isEmpty else { return [] }
        let contents =
            content.layout?.contents(overlapping: range)
            ?? [Content(id: content.id, size: content.size, source: 0, offset: content.offset)]
        var pieces: [FetchPiece] = []
        var end = range.lowerBound
        for neighbour in contents
        where neighbour.size > 0 && !isComplete(ContentKey(neighbour.id, size: neighbour.size)) {
            let (limit, overflow) = neighbour.offset.addingReportingOverflow(neighbour.size)
            guard !overflow, neighbour.offset < range.upperBound else { continue }
            // In coordinates of the content.
            let low = max(range.lowerBound, neighbour.offset) - neighbour.offset
            let high = min(range.upperBound, limit) - neighbour.offset
            guard low < high else { continue }
            let use = table.use(ContentKey(neighbour.id, size: neighbour.size))
            for chunk in use.blob.grid.chunks(within: ByteRange(low, high)) {
                let piece = piece(use, chunk, neighbour.offset)
                // Contents that overlap (a hostile layer) are fetched one at a time.
                guard piece.range.lowerBound >= end,
                    !use.blob.claim(chunk..<chunk + 1, from: content.source).isEmpty
                else { continue }
                pieces.append(piece)
                end = piece.range.upperBound
            }
        }
        return pieces
    }

    private func isComplete(_ key: ContentKey) -> Bool {
        space.localBytes(key) == key.size && !table.isActive(key)
    }

    /// Cuts pieces in order into ranges of a bounded length without big holes.
    private func split(
        _ pieces: [FetchPiece], _ source: any ByteSource, _ priority: FetchPriority,
        rangeBytesMax: UInt64 = FetchQueue.rangeBytesMax, group: FetchGroup? = nil
    ) -> [FetchJob] {
        var jobs: [FetchJob] = []
        var run: [FetchPiece] = []
        var holes: UInt64 = 0
        for piece in pieces {
            if let first = run.first, let last = run.last {
                let gap = piece.range.lowerBound - last.range.upperBound
                let bytes = piece.range.upperBound - first.range.lowerBound
                let isWasteful =
                    priority == .prefetch && gap > Self.prefetchGapMax
                    && (holes + gap) * Self.prefetchGapShare > bytes - holes - gap
                if gap > Self.gapMax || bytes > rangeBytesMax || isWasteful {
                    jobs.append(FetchJob(source, run, priority: priority, group: group))
                    run = []
                    holes = 0
                } else {
                    holes += gap
                }
            }
            run.append(piece)
        }
        if !run.isEmpty { jobs.append(FetchJob(source, run, priority: priority, group: group)) }
        return jobs
    }
}
