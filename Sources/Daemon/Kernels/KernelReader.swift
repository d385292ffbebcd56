internal import Catalog
internal import ChunkStore
internal import KernelCaches
internal import MCFSCore
internal import MountFS

/// Finds out what the kernels of a tree need: from what the catalog has of their metadata, from manifests of images, else
/// by reading those files, which are fetched ahead of everything else, and nothing of the kernels with them.
struct KernelReader: Sendable {
    let catalog: Catalog
    let cache: ChunkCache
    let tree: Tree
    let sources: TreeSources
    let survey: KernelSurvey

    /// Raised when the same metadata is understood in another way than before.
    private static let version: UInt8 = 1
    /// Kernels whose metadata are fetched at once: what is known is made use of in between.
    private static let batch = 1024
    /// First bytes of large files that are fetched at once.
    private static let headsAtOnce = 16
    /// Most metadata that is read of one tree, in bytes; kernels beyond it stay unknown.
    private static let bytesMax: UInt64 = 256 << 20

    /// Without the network; nil where it must be read.
    func known() -> [KernelDescription?] {
        var descriptions: [KernelDescription?] = []
        descriptions.reserveCapacity(survey.entries.count)
        var positions: [Int] = []
        var keys: [[UInt8]] = []
        for (position, entry) in survey.entries.enumerated() {
            if let content = content(of: entry), !isTooLarge(entry, content) {
                descriptions.append(nil)
                positions.append(position)
                keys.append(key(of: entry, content))
            } else {
                descriptions.append(describe(entry, nil))
            }
        }
        let records = (try? catalog.kernelDescriptions(of: keys)) ?? []
        for (position, record) in zip(positions, records) {
            descriptions[position] = record.flatMap(KernelDescription.init(record:))
        }
        return descriptions
    }

    /// What the manifests of images say of kernels of the same layer whose metadata is not local. Blocks while those are
    /// read, a file for each layer; one that cannot be had or read tells nothing.
    func fromManifests(_ missing: [Int], isCancelled: @escaping @Sendable () -> Bool) -> [(Int, KernelDescription)] {
        var found: [(Int, KernelDescription)] = []
        for content in tree.sources.kernelManifests where content.size <= UInt64(CacheManifest.bytesMax) {
            guard let file = try? sources.content(content),
                let bytes = try? cache.bytes(of: file, count: content.size, isCancelled: isCancelled),
                let manifest = CacheManifest(bytes)
            else { continue }
            for position in missing {
                let entry = survey.entries[position]
                guard let metadata = self.content(of: entry), metadata.source == content.source, !isLocal(metadata),
                    let description = manifest.description(of: entry, in: tree)
                else { continue }
                found.append((position, description))
            }
        }
        return found
    }

    /// Reads what is missing. Blocks; what cannot be had stays nil, and the first failure is thrown at the end. An origin
    /// that does not answer is waited for once, not once for each kernel.
    ///
    /// - Parameter found: gets each batch: positions in the survey, and what is known of them now.
    func read(
        _ missing: [Int], progress: any ProgressReporter, isCancelled: @escaping @Sendable () -> Bool,
        found: ([(Int, KernelDescription)]) -> Void
    ) throws(MCFSError) {
        var wanted = missing.compactMap { position in content(of: survey.entries[position]).map { (position, $0) } }
        wanted.sort { ($0.1.source, $0.1.offset) < ($1.1.source, $1.1.offset) }
        var budget = min(Self.bytesMax, cache.configuration.bytesMax / 8)
        var failure: MCFSError?
        var read: [(Int, KernelDescription)] = []
        defer { keep(read) }
        for start in stride(from: 0, to: wanted.count, by: Self.batch) {
            var files: [(Int, FileContent)] = []
            for (position, content) in wanted[start..<min(start + Self.batch, wanted.count)] {
                let bytes = survey.entries[position].metadataBytes == nil ? content.size : 0
                guard bytes <= budget, let file = try? sources.content(content) else { continue }
                budget -= bytes
                files.append((position, file))
            }
            if failure == nil {
                do throws(MCFSError) { try fetch(files, progress: progress, isCancelled: isCancelled) } catch {
                    failure = error
                }
            }
            if isCancelled() { throw MCFSError(.cancelled, "reading what kernels need was given up") }
            let described = describeLocal(files)
            read += described
            found(described)
        }
        if let failure { throw failure }
    }

    private func fetch(
        _ files: [(Int, FileContent)], progress: any ProgressReporter, isCancelled: @escaping @Sendable () -> Bool
    ) throws(MCFSError) {
        try cache.prefetch(
            files.filter { survey.entries[$0.0].metadataBytes == nil }.map(\.1), progress: progress,
            isCancelled: isCancelled)
        // Of the others a few bytes are enough.
        let heads = files.compactMap { position, file in
            survey.entries[position].metadataBytes.map { (file, min($0, file.size)) }
        }
        for start in stride(from: 0, to: heads.count, by: Self.headsAtOnce) {
            var waiters: [BytesWaiter] = []
            for (file, count) in heads[start..<min(start + Self.headsAtOnce, heads.count)] {
                waiters.append(try BytesWaiter(reading: count, of: file, in: cache))
            }
            for waiter in waiters { _ = try waiter.bytes(isCancelled) }
        }
    }

    private func describeLocal(_ files: [(Int, FileContent)]) -> [(Int, KernelDescription)] {
        files.compactMap { position, file in
            let entry = survey.entries[position]
            let isHead = entry.metadataBytes != nil
            guard isHead || cache.localBytes(of: file.id, size: file.size) == file.size,
                cache.localBytes(of: file.id, size: file.size) > 0,
                let bytes = try? cache.bytes(of: file, count: min(entry.metadataBytes ?? file.size, file.size))
            else { return nil }
            return (position, describe(entry, bytes))
        }
    }

    private func keep(_ described: [(Int, KernelDescription)]) {
        // In the order of the survey, in which `known` will ask for them.
        let records = described.sorted { $0.0 < $1.0 }.compactMap { position, description in
            let entry = survey.entries[position]
            return content(of: entry).map { (key: key(of: entry, $0), description: description.record) }
        }
        // Not all at once: others wait for the catalog. What cannot be kept is found out again.
        for start in stride(from: 0, to: records.count, by: Self.batch) {
            try? catalog.saveKernelDescriptions(Array(records[start...].prefix(Self.batch)))
        }
    }

    /// All that a description follows from.
    private func key(of entry: KernelEntry, _ content: Content) -> [UInt8] {
        var key: [UInt8] = []
        key.reserveCapacity(96)
        key.append(Self.version)
        // No kind has a name with the number of a kind of identity in it.
        key += entry.kind.rawValue.utf8
        key.append(content.id.kind.rawValue)
        key += content.id.bytes
        tree.withName(of: entry.directory) { key += $0 }
        return key
    }

    private func content(of entry: KernelEntry) -> Content? {
        entry.metadata.first.flatMap { tree.content(of: $0) }.flatMap { $0.size > 0 ? $0 : nil }
    }

    private func isLocal(_ content: Content) -> Bool {
        cache.localBytes(of: content.id, size: content.size) == content.size
    }

    private func isTooLarge(_ entry: KernelEntry, _ content: Content) -> Bool {
        entry.metadataBytes == nil && content.size > KernelDescription.metadataBytesMax
    }

    private func describe(_ entry: KernelEntry, _ metadata: [UInt8]?) -> KernelDescription {
        KernelDescription(
            entry.kind, directoryName: tree.withName(of: entry.directory) { Array($0) }, metadata: metadata)
    }
}

extension ChunkCache {
    /// The first bytes of a content. Blocks until they are local, at most for the cache's read deadline.
    func bytes(
        of content: FileContent, count: UInt64, isCancelled: @escaping @Sendable () -> Bool = { false }
    ) throws(MCFSError) -> [UInt8] {
        count == 0 ? [] : try BytesWaiter(reading: count, of: content, in: self).bytes(isCancelled)
    }
}

/// Waits for the first bytes of a content on behalf of a thread that may block.
private final class BytesWaiter: ReadWaiter {
    private let result = Guarded<Result<[UInt8], MCFSError>?>(nil)
    private let deadline: Deadline

    init(reading count: UInt64, of content: FileContent, in cache: ChunkCache) throws(MCFSError) {
        // The cache completes every read by its own deadline; a moment more, for the thread that does.
        deadline = Deadline(after: cache.configuration.readDeadline + .seconds(5))
        switch try cache.open(content).read(ByteRange(0, count), makeWaiter: { self }) {
        case .pending: break
        case .region(let region): complete(.success(region))
        }
    }

    func complete(_ result: consuming Result<FileRegion, MCFSError>) {
        let bytes: Result<[UInt8], MCFSError>
        switch consume result {
        case .failure(let error): bytes = .failure(error)
        case .success(let region):
            let read = region.withBytes { Array($0) }
            bytes = read.map { .success($0) } ?? .failure(MCFSError(.localIO, "a file of the cache cannot be read"))
        }
        self.result.update { $0 = bytes }
    }

    func bytes(_ isCancelled: () -> Bool) throws(MCFSError) -> [UInt8] {
        while !deadline.hasPassed {
            if let result = result.wait(until: Deadline(after: .milliseconds(100)), { $0 }) { return try result.get() }
            if isCancelled() { throw MCFSError(.cancelled, "nobody waits any more") }
        }
        throw MCFSError(.timedOut, "bytes of the cache did not come", isTransient: true)
    }
}
