package import MCFSCore

/// Reads a layer's table of contents, once per digest.
package struct LayerIndexer: Sendable {
    private let digest: Digest
    private let size: UInt64
    private let source: any ByteSource
    private let content: any ContentSink
    private let progress: any ProgressReporter
    private let isKernel: @Sendable (ArraySlice<UInt8>) -> Bool
    private let budget: MetadataBudget
    private let zstdWindow: ZstdWindow
    /// What messages call the layer.
    private let name: String

    /// What takes a block of the disk anyway. Smaller files of a layer that can be read anywhere come with their neighbors
    /// when one of them is read; a million of them must not become a million files.
    private static let storedBytesMin: UInt64 = 4096

    /// Bytes between two reports of progress.
    private static let reportBytes: UInt64 = 1 << 20

    /// - Parameters:
    ///   - size: bytes of `source`, the layer as it is stored.
    ///   - content: takes files that pass by. One that refuses a file does not fail the index; what it throws later does,
    ///     and `cancelled` always.
    ///   - isKernel: whether a file of this name is a kernel for some GPU. Of those that lie together in an uncompressed
    ///     layer a host will read few.
    ///   - budget: of all layers of the image.
    ///   - zstdWindow: what zstd frames may ask for.
    package init(
        digest: Digest, size: UInt64, source: any ByteSource, content: any ContentSink, progress: any ProgressReporter,
        isKernel: @escaping @Sendable (ArraySlice<UInt8>) -> Bool = { _ in false },
        budget: MetadataBudget = MetadataBudget(), zstdWindow: ZstdWindow = ZstdWindow()
    ) {
        self.isKernel = isKernel
        self.budget = budget
        self.zstdWindow = zstdWindow
        self.digest = digest
        self.size = size
        self.source = source
        self.content = content
        self.progress = progress
        name = "layer \(digest)"
    }

    /// An uncompressed layer is read by ranges, past the data of large files; small files that lie in the way are handed to
    /// the cache, but for tiny ones, and known by the digest of their bytes, the others by their place. Its digest is checked
    /// where no data were passed over. A compressed one is read once from its first to its last byte and its digest
    /// checked; all its files are handed over and known by the digest of their bytes. Blocks the calling thread until
    /// `deadline` at the latest.
    /// - Throws: `corrupt` where the layer is no tar, is cut short, has names that lead out of it, or (compressed) is not
    ///   what the digest stands for; `unsupported`; what reading the source throws.
    package func index(deadline: Deadline) throws(MCFSError) -> LayerTable {
        report(0)
        guard source.hasRandomAccess else { return try stream(first: [], coding: nil, deadline: deadline) }
        let firstCount = min(size, UInt64(TarScan.Limits().windowBytesMin))
        let first = firstCount > 0 ? try source.bytes(ByteRange(0, firstCount), deadline: deadline) : []
        let coding = try LayerCoding(startingWith: first, name: name)
        if UInt64(first.count) == size {
            // All of it is here: its digest costs nothing.
            var check = DigestCheck(digest, size: size)
            check.update(first)
            try check.verify()
        }
        if coding != .plain { return try stream(first: first, coding: coding, deadline: deadline) }
        return LayerTable(coding: .plain, entries: try scan(first: first, deadline: deadline))
    }

    private func scan(first: [UInt8], deadline: Deadline) throws(MCFSError) -> [TreeEntry] {
        var scan = TarScan(
            source, size: size, name: name, deadline: deadline, first: first, check: DigestCheck(digest, size: size))
        var table = LayerEntries(name: name, digest: digest, budget: budget)
        let members = MemberStore(content)
        defer { members.end() }
        var reported: UInt64 = 0
        var hasKernels = false
        while let member = try scan.next() {
            let content = try table.add(member)
            if content != nil, isKernel(member.lastComponent) {
                scan.becomeSparse()
                hasKernels = true
            }
            if content != nil, let bytes = try scan.data(of: member) {
                // Among kernels, tiny files are their metadata, which each mount looks at.
                let isStored = hasKernels || member.size >= Self.storedBytesMin
                try members.add(bytes, at: table.entries.count - 1, isKept: isStored)
            }
            let done = min(scan.offset, size)
            if done - reported >= Self.reportBytes {
                try checkTime(deadline)
                report(done)
                reported = done
            }
        }
        try scan.verify()
        for (index, id) in try members.finish() { table.identify(index, as: id) }
        report(size)
        return table.entries
    }

    /// - Parameters:
    ///   - first: bytes that were read already.
    ///   - coding: nil where they do not tell yet.
    private func stream(
        first: [UInt8], coding: LayerCoding?, deadline: Deadline
    ) throws(MCFSError) -> LayerTable {
        var check = DigestCheck(digest, size: size)
        var tar = TarStream(name: name, digest: digest, content: content, budget: budget)
        var coding = coding
        var decoder = try coding?.decoder(name: name, zstdWindow, deadline)
        var reported: UInt64 = 0
        /// What came before the coding could be told.
        var start: [UInt8] = []

        func decode(_ bytes: [UInt8]) throws(MCFSError) {
            guard !tar.hasEnded else { return }
            try decoder?.decode(bytes) { (output) throws(MCFSError) in
                // A few bytes may stand for a great many.
                try checkTime(deadline)
                try tar.take(output)
                return !tar.hasEnded
            }
        }
        func tell() throws(MCFSError) {
            let told = try LayerCoding(startingWith: start, name: name)
            coding = told
            decoder = try told.decoder(name: name, zstdWindow, deadline)
            try decode(start)
        }
        func take(_ bytes: [UInt8]) throws(MCFSError) {
            check.update(bytes)
            if decoder != nil {
                try decode(bytes)
            } else {
                start += bytes
                if start.count >= LayerCoding.magicBytesMax { try tell() }
            }
            if check.count - reported >= Self.reportBytes {
                reported = check.count
                report(reported)
            }
        }

        if !first.isEmpty { try take(first) }
        if check.count < size {
            try ByteStream.read(source, ByteRange(check.count, size), deadline: deadline) { (piece) throws(MCFSError) in
                try take(piece)
                return true
            }
        }
        if decoder == nil { try tell() }
        // A layer that is not the one asked for is told as that, not by what it lacks.
        try check.verify()
        if !tar.hasEnded {
            try decoder?.finish()
            try tar.finish()
        }
        report(size)
        return LayerTable(coding: coding ?? .plain, entries: tar.entries)
    }

    private func checkTime(_ deadline: Deadline) throws(MCFSError) {
        if deadline.hasPassed { throw MCFSError(.timedOut, "\(name) could not be read in time", isTransient: true) }
    }

    private func report(_ done: UInt64) {
        progress.report(phase: "indexing layer \(digest.hex.prefix(12))", done: done, total: size)
    }
}
