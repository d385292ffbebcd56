internal import Logging
internal import MCFSCore
internal import Synchronization
internal import Transport

/// Finds all files and folders below a folder by the links of its indexes.
///
/// Goes in waves: all folders of a wave are read, then all files that they link to are looked at, several at once.
/// Only links that stay below the first folder count, so that no link can lead to its parents or to other servers.
struct HTTPCrawl {
    /// What was found: paths below the first folder.
    struct Listing: Sendable {
        var files: [(path: TreePath, file: HTTPFile)] = []
        var folders: [TreePath] = []
    }

    static let depthMax = 32
    static let entriesMax = 200_000
    /// Requests at once: servers bound the connections of one client.
    static let requestsMax = 8

    let fetcher: HTTPFetcher
    let logger: Logger
    let deadline: Deadline

    private struct Item: Sendable {
        var path: TreePath
        var location: HTTPLocation
    }

    /// `first` is the index of `root`, which was read already.
    func run(_ root: HTTPLocation, _ first: [HTTPLocation]) throws(MCFSError) -> Listing {
        var listing = Listing()
        var taken: Set<TreePath> = []
        var visited: Set<HTTPLocation> = [root]
        var folders: [Item] = []
        var files: [Item] = []
        try sort(first, at: Item(path: .root, location: root), &taken, &folders, &files)
        while !folders.isEmpty || !files.isEmpty {
            var next: [Item] = []
            let files1 = files
            for (item, finding) in zip(files1, try look(at: files1)) {
                switch finding {
                case .file(let file): listing.files.append((item.path, file))
                case .folder(let location): next.append(Item(path: item.path, location: location))
                case .missing(let error):
                    logger.warning("a link of an index leads nowhere", metadata: ["reason": "\(error.message)"])
                }
            }
            files = []
            let unread = folders + next
            folders = []
            for (item, page) in zip(unread, try read(unread)) {
                guard let (place, links) = page else { continue }
                guard place == root || place.components(below: root) != nil, visited.insert(place).inserted else {
                    logger.warning(
                        "a folder leads out of the mounted one or in a circle",
                        metadata: ["url": "\(item.location.shown.text)"])
                    continue
                }
                listing.folders.append(item.path)
                try sort(links, at: Item(path: item.path, location: place), &taken, &folders, &files)
            }
        }
        return listing
    }

    /// Tells the links of one index into folders and files that are new.
    private func sort(
        _ links: [HTTPLocation], at folder: Item, _ taken: inout Set<TreePath>, _ folders: inout [Item],
        _ files: inout [Item]
    ) throws(MCFSError) {
        // Folders first: where a name is both, the one with entries is meant.
        for isFolder in [true, false] {
            for link in links where link.isFolder == isFolder {
                guard let path = try path(of: link, in: folder) else { continue }
                guard taken.insert(path).inserted else { continue }
                guard taken.count <= Self.entriesMax else {
                    throw MCFSError(
                        .unsupported,
                        "\(folder.location.shown.text) has more than \(Self.entriesMax) entries; mount a part of it")
                }
                if isFolder {
                    folders.append(Item(path: path, location: link))
                } else {
                    files.append(Item(path: path, location: link))
                }
            }
        }
    }

    /// nil for a name that no file can have.
    ///
    /// - Throws: `unsupported` for one that lies too deep.
    private func path(of link: HTTPLocation, in folder: Item) throws(MCFSError) -> TreePath? {
        var path = folder.path
        let components = link.components(below: folder.location) ?? []
        // Before the path is made, which takes the square of its length.
        guard path.components.count + components.count <= Self.depthMax else {
            throw MCFSError(
                .unsupported,
                "\(MCFSError.shown(link.shown.text.utf8)) lies deeper than \(Self.depthMax) folders; mount a part of it"
            )
        }
        for component in components {
            guard let name = Self.name(component) else {
                logger.warning("a link of an index is no valid name", metadata: ["url": "\(link.shown.text)"])
                return nil
            }
            path = path.appending(name)
        }
        return path.isRoot ? nil : path
    }

    /// One component of a URL's path as a name; nil where no file can have it.
    static func name(_ component: some StringProtocol) -> TreePath? {
        let bytes = HTTPLocation.decoded(component)
        guard !bytes.contains(UInt8(ascii: "/")), let path = try? TreePath(bytes), path.components.count == 1 else {
            return nil
        }
        return path
    }

    private func look(at items: [Item]) throws(MCFSError) -> [HTTPFinding] {
        let (fetcher, deadline) = (fetcher, deadline)
        return try Self.inParallel(items) { item throws(MCFSError) in
            try fetcher.look(at: item.location, deadline: deadline)
        }
    }

    /// The links of each folder; nil for one that has gone or is no index.
    private func read(_ items: [Item]) throws(MCFSError) -> [(place: HTTPLocation, links: [HTTPLocation])?] {
        let (fetcher, deadline, logger) = (fetcher, deadline, logger)
        // Of all pages that are read at once: what they link to is told apart only afterwards.
        let budget = MetadataBudget(entriesMax: HTTPIndex.linksMax)
        return try Self.inParallel(items) { item throws(MCFSError) in
            let (answer, place) = try fetcher.get(item.location, deadline: deadline, wantsBody: HTTPIndex.isCandidate)
            if let links = try HTTPIndex.links(of: answer, at: place, deadline: deadline), place.isFolder {
                let bytes = links.reduce(0) { $0 + 64 + $1.path.utf8.count }
                try budget.take(entries: links.count, bytes: bytes, of: place.shown.text)
                return (place, links)
            }
            if answer.status == 200 || answer.status == 404 || answer.status == 410 {
                logger.warning("a link to a folder leads to no index", metadata: ["url": "\(item.location.shown.text)"])
                return nil
            }
            throw HTTPFetcher.error(answer, item.location)
        }
    }

    /// Maps `items` on several threads, in order; the first error ends it.
    private static func inParallel<Item: Sendable, Output: Sendable>(
        _ items: [Item], _ body: @escaping @Sendable (Item) throws(MCFSError) -> Output
    ) throws(MCFSError) -> [Output] {
        let job = ParallelJob(ParallelJob<Output>.State(outputs: Array(repeating: nil, count: items.count))) { job in
            while true {
                let index = job.state.withLock { state -> Int? in
                    guard state.error == nil, state.next < items.count else { return nil }
                    state.next += 1
                    return state.next - 1
                }
                guard let index else { return }
                do throws(MCFSError) {
                    let output = try body(items[index])
                    job.state.withLock { $0.outputs[index] = output }
                } catch {
                    job.state.withLock { $0.error = $0.error ?? error }
                }
            }
        }
        // Fewer where the system gives no more: this thread does what is left.
        let threads = (1..<max(2, min(requestsMax, items.count))).compactMap { _ in
            try? startThread("mcfs-crawl") { job.work(job) }
        }
        job.work(job)
        for thread in threads { thread.join() }
        let state = job.state.withLock { $0 }
        if let error = state.error { throw error }
        return state.outputs.compactMap { $0 }
    }
}

/// What the threads of one parallel map share.
private final class ParallelJob<Output: Sendable>: Sendable {
    struct State: Sendable {
        var next = 0
        var outputs: [Output?]
        var error: MCFSError?
    }

    let state: Lock<State>
    let work: @Sendable (ParallelJob) -> Void

    init(_ state: State, _ work: @escaping @Sendable (ParallelJob) -> Void) {
        self.state = Lock(state)
        self.work = work
    }
}
