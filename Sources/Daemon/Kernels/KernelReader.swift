internal import Catalog
internal import ChunkStore
internal import Foundation
internal import KernelCaches
internal import MCFSCore
internal import Synchronization

/// Finds out what the kernels of a tree need: from what the catalog has of their metadata, else by reading those files,
/// which are fetched ahead of everything else, and nothing of the kernels with them.
struct KernelReader: Sendable {
    let catalog: Catalog
    let cache: ChunkCache
    let tree: Tree
    let sources: [any ByteSource]
    let survey: KernelSurvey

    /// Kernels whose metadata are fetched at once: what is known is made use of in between.
    private static let batch = 1000

    /// Without the network; nil where it must be read.
    func known() -> [KernelDescription?] {
        let contents = survey.entries.map { content(of: $0) }
        let kept = (try? catalog.kernelDescriptions(of: Array(Set(contents.compactMap { $0?.id })))) ?? [:]
        let decoder = JSONDecoder()
        var decoded: [BlobID: KernelDescription] = [:]
        for (id, text) in kept { decoded[id] = try? decoder.decode(KernelDescription.self, from: Data(text.utf8)) }
        return zip(survey.entries, contents).map { entry, content in
            guard let content else { return describe(entry, nil) }
            if isTooLarge(entry, content) { return describe(entry, nil) }
            return decoded[content.id]
        }
    }

    /// What the manifests of images say of kernels that nothing is known of. Blocks while those are read, a file for each
    /// layer; one that cannot be had or read tells nothing.
    func fromManifests(_ missing: [Int]) -> [(Int, KernelDescription)] {
        var found: [(Int, KernelDescription)] = []
        var missing = missing
        for (number, descriptor) in tree.sources.enumerated() where !missing.isEmpty {
            guard let content = descriptor.kernelManifest, content.size <= UInt64(CacheManifest.bytesMax) else {
                continue
            }
            let file = FileContent(
                id: content.id, size: content.size, source: sources[number], offset: content.offset,
                layout: tree.layout(ofSource: number))
            guard let bytes = try? cache.bytes(of: file, count: content.size), let manifest = CacheManifest(bytes)
            else {
                continue
            }
            for position in missing {
                if let description = manifest.description(of: survey.entries[position], in: tree) {
                    found.append((position, description))
                }
            }
            let told = Set(found.map(\.0))
            missing.removeAll { told.contains($0) }
        }
        return found
    }

    /// Reads what is missing. Blocks; what cannot be had stays nil, and what fails is thrown at the end.
    ///
    /// - Parameter found: gets each batch: positions in the survey, and what is known of them now.
    func read(
        _ missing: [Int], progress: any ProgressReporter, isCancelled: @escaping @Sendable () -> Bool,
        found: ([(Int, KernelDescription)]) -> Void
    ) throws(MCFSError) {
        var error: MCFSError?
        let wanted = missing.compactMap { position in content(of: survey.entries[position]).map { (position, $0) } }
            .sorted { ($0.1.source, $0.1.offset) < ($1.1.source, $1.1.offset) }
        var layouts: [Int: any SourceLayout] = [:]
        for start in stride(from: 0, to: wanted.count, by: Self.batch) {
            let batch = wanted[start..<min(start + Self.batch, wanted.count)]
            let files = batch.compactMap { position, content -> (Int, FileContent)? in
                guard sources.indices.contains(content.source) else { return nil }
                let layout = layouts[content.source] ?? tree.layout(ofSource: content.source)
                layouts[content.source] = layout
                return (
                    position,
                    FileContent(
                        id: content.id, size: content.size, source: sources[content.source], offset: content.offset,
                        layout: layout)
                )
            }
            // Of the others a few bytes are enough.
            let whole = files.filter { survey.entries[$0.0].metadataBytes == nil }.map(\.1)
            do throws(MCFSError) {
                try cache.prefetch(whole, progress: progress, isCancelled: isCancelled)
            } catch let failure {
                error = error ?? failure
            }
            if isCancelled() { throw MCFSError(.cancelled, "reading what kernels need was given up") }
            var described: [(Int, KernelDescription)] = []
            for (position, file) in files {
                do throws(MCFSError) {
                    let entry = survey.entries[position]
                    let bytes = try cache.bytes(of: file, count: min(entry.metadataBytes ?? file.size, file.size))
                    described.append((position, describe(entry, bytes)))
                } catch let failure {
                    error = error ?? failure
                }
            }
            keep(described)
            found(described)
        }
        if let error { throw error }
    }

    private func keep(_ described: [(Int, KernelDescription)]) {
        let encoder = JSONEncoder()
        var texts: [BlobID: String] = [:]
        for (position, description) in described {
            guard let content = content(of: survey.entries[position]),
                let data = try? encoder.encode(description)
            else { continue }
            texts[content.id] = String(decoding: data, as: UTF8.self)
        }
        // Found out again where it cannot be kept.
        try? catalog.saveKernelDescriptions(texts)
    }

    private func content(of entry: KernelEntry) -> Content? {
        entry.metadata.first.flatMap { tree.content(of: $0) }.flatMap { $0.size > 0 ? $0 : nil }
    }

    private func isTooLarge(_ entry: KernelEntry, _ content: Content) -> Bool {
        entry.metadataBytes == nil && content.size > UInt64(KernelDescription.metadataBytesMax)
    }

    private func describe(_ entry: KernelEntry, _ metadata: [UInt8]?) -> KernelDescription {
        KernelDescription(
            entry.kind, directoryName: tree.withName(of: entry.directory) { Array($0) }, metadata: metadata)
    }
}

extension ChunkCache {
    /// The first bytes of a content. Blocks until they are local, at most for the cache's read deadline.
    func bytes(of content: FileContent, count: UInt64) throws(MCFSError) -> [UInt8] {
        if count == 0 { return [] }
        let waiter = BytesWaiter()
        switch try open(content).read(ByteRange(0, count), makeWaiter: { waiter }) {
        case .pending: return try waiter.bytes()
        case .region(let region): return try Self.bytes(of: region)
        }
    }

    fileprivate static func bytes(of region: borrowing FileRegion) throws(MCFSError) -> [UInt8] {
        guard let bytes = region.withBytes({ Array($0) }) else {
            throw MCFSError(.localIO, "a file of the cache cannot be read")
        }
        return bytes
    }
}

private final class BytesWaiter: ReadWaiter {
    private let result = Guarded<Result<[UInt8], MCFSError>?>(nil)

    func complete(_ result: consuming Result<FileRegion, MCFSError>) {
        let bytes: Result<[UInt8], MCFSError>
        switch consume result {
        case .failure(let error): bytes = .failure(error)
        case .success(let region):
            do throws(MCFSError) { bytes = .success(try ChunkCache.bytes(of: region)) } catch {
                bytes = .failure(error)
            }
        }
        self.result.update { $0 = bytes }
    }

    func bytes() throws(MCFSError) -> [UInt8] {
        // The cache completes every read by its own deadline.
        while true {
            if let result = result.wait(until: Deadline(after: .seconds(60)), { $0 }) { return try result.get() }
        }
    }
}
