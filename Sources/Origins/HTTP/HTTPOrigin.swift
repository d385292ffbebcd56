package import Catalog
package import Logging
package import MCFSCore
internal import Synchronization
package import Transport

/// `http://` and `https://`: one file, or a folder whose index lists links.
///
/// A file's version is its `ETag`, `Last-Modified` and size; where the server tells neither of the first two, each resolution
/// is a version of its own. A file of which the server tells no size is read once while the tree is made, and pinned by its
/// digest. User and password of the URL are used for its own server only, and are shown and stored nowhere; nor is a query
/// that looks like a signature.
package final class HTTPOrigin: Origin {
    /// Without user and password.
    package let reference: String
    private let start: HTTPLocation
    private let fetcher: HTTPFetcher
    private let logger: Logger
    /// The listing of the last resolution, for its tree.
    private let last = Lock<(key: String, listing: HTTPCrawl.Listing)?>(nil)

    /// - Throws: `usage` for a malformed reference.
    package init(_ reference: String, environment: Environment, http: HTTPClient, logger: Logger) throws(MCFSError) {
        var userinfo: String?
        guard let start = HTTPLocation(reference, userinfo: &userinfo) else {
            throw MCFSError(.usage, "a URL is malformed; write http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH")
        }
        self.start = start
        self.logger = logger
        self.reference = start.shown.text
        fetcher = HTTPFetcher(
            client: http, home: start, userinfo: userinfo,
            tls: TLSOptions(certificateAuthority: environment["SSL_CERT_FILE"]))
    }

    package func resolve(deadline: Deadline) throws(MCFSError) -> Catalog.Resolution {
        let listing = try list(deadline)
        let key = Self.key(reference, listing)
        last.withLock { $0 = (key, listing) }
        return Catalog.Resolution(reference: reference, resolved: reference, treeKey: key)
    }

    /// Two listings with the same key have the same files in the same versions.
    private static func key(_ reference: String, _ listing: HTTPCrawl.Listing) -> String {
        var parts = [reference]
        for (path, file) in listing.files.sorted(by: { $0.path.bytes.lexicographicallyPrecedes($1.path.bytes) }) {
            parts += [path.bytes.hex] + file.keyParts
        }
        parts += listing.folders.map { $0.bytes.hex }.sorted()
        let text = parts.map { "\($0.utf8.count):\($0)" }.joined()
        return "http-" + Digest.sha256(of: text.utf8).hex
    }

    // MARK: Finding files

    private func list(_ deadline: Deadline) throws(MCFSError) -> HTTPCrawl.Listing {
        if start.isFolder { return try listFolder(start, deadline) }
        switch try fetcher.look(at: start, deadline: deadline) {
        case .missing(let error): throw error
        case .folder(let location): return try listFolder(location, deadline)
        case .file(let file):
            guard let name = HTTPCrawl.name(start.path.split(separator: "/").last ?? "") else {
                throw MCFSError(
                    .usage, "the last part of \(reference) cannot be the name of a file; mount the folder that holds it"
                )
            }
            return HTTPCrawl.Listing(files: [(name, file)])
        }
    }

    private func listFolder(_ folder: HTTPLocation, _ deadline: Deadline) throws(MCFSError) -> HTTPCrawl.Listing {
        let (answer, place) = try fetcher.get(folder, deadline: deadline, wantsBody: HTTPIndex.isCandidate)
        guard answer.status == 200 else { throw HTTPFetcher.error(answer, folder) }
        guard place.isFolder, let links = try HTTPIndex.links(of: answer, at: place, deadline: deadline) else {
            throw MCFSError(
                .usage,
                "\(reference) names a folder, but the server sends no index of links for it; turn its index on, or give the URL of a file"
            )
        }
        if links.isEmpty, HTTPIndex.hasForm(answer) {
            throw MCFSError(
                .originUnavailable,
                "\(reference) is answered with a page to fill in, such as one to log in, where an index of links was expected; check the URL, and write \(start.scheme)://USER:PASSWORD@\(start.authority)/… where a login is needed"
            )
        }
        return try HTTPCrawl(fetcher: fetcher, logger: logger, deadline: deadline).run(
            place.with(path: place.path), links)
    }

    // MARK: Tree

    package func tree(of resolution: Catalog.Resolution, loading: TreeLoading) throws(MCFSError) -> Tree {
        let listing = try listing(of: resolution, loading.deadline)
        var builder = TreeBuilder()
        var unversioned = 0
        for path in listing.folders { try builder.add(TreeEntry(path, .directory, permissions: 0o755)) }
        for (path, file) in listing.files {
            var id: BlobID
            var size: UInt64
            var digest: Digest?
            if let known = file.size {
                size = known
                id = file.identity(size: known)
                if file.nonce != nil { unversioned += 1 }
            } else {
                let whole = try readWhole(file, loading)
                (size, digest) = (whole.size, whole.digest)
                guard let identity = BlobID(whole.digest) else { throw MCFSError(.failed, "a SHA-256 is no identity") }
                id = identity
            }
            let source = builder.addSource(file.descriptor(size: size, digest: digest))
            let content = Content(id: id, size: size, source: source, offset: 0)
            try builder.add(TreeEntry(path, .file(content), permissions: 0o644, modified: file.timestamp))
        }
        if unversioned > 0 {
            loading.progress.warn(
                "\(reference): the server sends neither ETag nor Last-Modified for \(unversioned) of \(listing.files.count) files; a change there that keeps the size goes unnoticed while this is mounted, and the next mount fetches them again"
            )
        }
        return try builder.build()
    }

    /// That of the last `resolve`; after a restart, it is made again and must be the same.
    private func listing(of resolution: Catalog.Resolution, _ deadline: Deadline) throws(MCFSError) -> HTTPCrawl.Listing
    {
        if let last = last.withLock({ $0 }), last.key == resolution.treeKey { return last.listing }
        let listing = try list(deadline)
        guard Self.key(reference, listing) == resolution.treeKey else {
            throw MCFSError(.changed, "\(reference) has changed since it was resolved; mount it again")
        }
        return listing
    }

    /// Reads a file of unknown size to its end, and keeps it if it is small.
    private func readWhole(_ file: HTTPFile, _ loading: TreeLoading) throws(MCFSError) -> (size: UInt64, digest: Digest)
    {
        let location = try location(file.url)
        let (client, url) = (fetcher.client, location.shown.text)
        let whole = try RetryPolicy().retrying(until: loading.deadline) { () throws(MCFSError) in
            let sink = WholeSink(url) { loading.progress.report(phase: "reading \(url)", done: $0, total: nil) }
            let (answer, _) = try fetcher.follow(location, headers: [("Accept-Encoding", "identity")]) {
                request throws(MCFSError) in
                let answer = try client.perform(request, deadline: loading.deadline) { answer throws(MCFSError) in
                    answer.status == 200 ? sink : nil
                }
                return answer.status == 200 ? nil : answer
            }
            if let answer { throw HTTPFetcher.error(answer, location) }
            return sink
        }
        let result = whole.result
        if let bytes = result.bytes {
            let writer = try loading.content.beginContent(id: BlobID(result.digest), size: result.size)
            let written = bytes.withUnsafeBytes { bytes in Result { () throws(MCFSError) in try writer.write(bytes) } }
            try written.get()
            _ = try writer.commit()
        }
        return (result.size, result.digest)
    }

    package func forgetListing() { last.withLock { $0 = nil } }

    // MARK: Bytes

    package func source(
        _ descriptor: SourceDescriptor, of resolution: Catalog.Resolution
    ) throws(MCFSError) -> any ByteSource {
        guard descriptor["kind"] == "http", let url = descriptor["url"] else {
            throw MCFSError(.corrupt, "a stored file of \(reference) is not one of an HTTP server; mount it again")
        }
        return RetryingSource(try HTTPSource(descriptor, start: try location(url), fetcher: fetcher))
    }

    /// The place of a stored URL: that of the reference itself has the query that is not stored.
    private func location(_ url: String) throws(MCFSError) -> HTTPLocation {
        if url == reference { return start }
        var userinfo: String?
        guard let location = HTTPLocation(url, userinfo: &userinfo) else {
            throw MCFSError(.corrupt, "a stored URL of \(reference) cannot be read; mount it again")
        }
        return location
    }
}
