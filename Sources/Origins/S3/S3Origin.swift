package import Catalog
internal import Crypto
package import Logging
package import MCFSCore
internal import Synchronization
package import Transport

/// A bucket, a folder of it or one object, on S3 or anything that speaks like it.
///
/// S3 has no snapshots: the version of a reference is its listing. Reads ask for the listed ETag and compare it, size and
/// time with what comes, so that an object that is replaced later fails with `changed` and never mixes with the old one.
package final class S3Origin: Origin {
    package let reference: String
    private let location: S3Location
    private let client: S3Client
    private let environment: Environment
    private let http: HTTPClient
    private let logger: Logger
    /// The listing of the last `resolve`, until `tree` takes it.
    private let listed = Lock<Listing?>(nil)
    /// Clients of endpoints that stored trees name and the environment does not any more.
    private let others = Lock<[String: S3Client]>([:])

    private struct Listing: Sendable {
        var treeKey: String
        var contents: S3Contents
    }

    /// Most pages of a listing: servers that give few keys on a page have fewer of them.
    private static let pagesMax = 100_000

    /// - Throws: `usage` for a malformed reference, `configuration` for AWS settings that cannot be used.
    package convenience init(
        _ reference: String, environment: Environment, http: HTTPClient, logger: Logger
    ) throws(MCFSError) {
        try self.init(reference, environment: environment, http: http, logger: logger, pause: nil)
    }

    init(
        _ reference: String, environment: Environment, http: HTTPClient, logger: Logger,
        pause: (@Sendable (Duration) -> Void)?
    ) throws(MCFSError) {
        self.reference = reference
        self.environment = environment
        self.http = http
        self.logger = logger
        location = try S3Location(reference)
        let configuration = try AWSConfiguration(environment)
        client = S3Client(
            bucket: location.bucket, configuration: configuration,
            credentials: AWSCredentialChain(environment: environment, configuration: configuration, http: http),
            http: http, pause: pause)
    }

    package func resolve(deadline: Deadline) throws(MCFSError) -> Catalog.Resolution {
        let listing = try list(deadline: deadline)
        listed.withLock { $0 = listing }
        return Catalog.Resolution(reference: reference, resolved: location.description, treeKey: listing.treeKey)
    }

    package func tree(of resolution: Catalog.Resolution, loading: TreeLoading) throws(MCFSError) -> Tree {
        let kept = listed.withLock { listing in
            defer { listing = nil }
            return listing
        }
        var listing = kept
        if listing?.treeKey != resolution.treeKey {
            let new = try list(deadline: loading.deadline)
            guard new.treeKey == resolution.treeKey else {
                throw MCFSError(
                    .changed, "the objects of \(location) have changed since it was resolved; mount it again")
            }
            listing = new
        }
        guard let listing else { throw MCFSError(.failed, "the listing of \(location) is lost; mount it again") }
        return try build(listing.contents)
    }

    package func forgetListing() { listed.withLock { $0 = nil } }

    package func source(
        _ descriptor: SourceDescriptor, of resolution: Catalog.Resolution
    ) throws(MCFSError) -> any ByteSource {
        let object = try S3ObjectSource.object(of: descriptor)
        return RetryingSource(S3ObjectSource(object, client: try client(for: descriptor)))
    }

    private func build(_ contents: S3Contents) throws(MCFSError) -> Tree {
        if contents.hiddenCount + contents.shadowedCount > 0 {
            logger.warning(
                "some keys cannot be presented as files",
                metadata: [
                    "reference": "\(location)", "invalid": "\(contents.hiddenCount)",
                    "shadowed": "\(contents.shadowedCount)",
                ])
        }
        var builder = TreeBuilder()
        for folder in contents.folders {
            try builder.add(TreeEntry(folder.path, .directory, permissions: 0o755, modified: folder.modified))
        }
        let endpoint = client.configuration.endpointIdentity
        for file in contents.files {
            let object = file.object
            let id = BlobID(
                origin: "s3", endpoint, location.bucket, String(decoding: object.key, as: UTF8.self), object.etag,
                String(object.size), object.modifiedText)
            let source = builder.addSource(S3ObjectSource.descriptor(of: object, client: client))
            let content = Content(id: id, size: object.size, source: source, offset: 0)
            try builder.add(TreeEntry(file.path, .file(content), permissions: 0o644, modified: object.modified))
        }
        return try builder.build()
    }

    /// - Throws: `notFound` where nothing is there.
    private func list(deadline: Deadline) throws(MCFSError) -> Listing {
        let objects = try objects(below: location.folder, deadline: deadline)
        let contents: S3Contents
        if !objects.isEmpty {
            contents = S3Contents(objects, below: location.folder)
        } else if let key = location.object, let object = try object(key, deadline: deadline) {
            contents = S3Contents(file: object)
        } else {
            throw MCFSError(.notFound, "there is no object at \(location); check the bucket's listing and the prefix")
        }
        var hash = SHA256()
        for part in [client.configuration.endpointIdentity, location.bucket, location.prefix, contents.version] {
            hash.update(data: Array("\(part.utf8.count):\(part)".utf8))
        }
        return Listing(treeKey: "s3-\(Array(hash.finalize()).hex)", contents: contents)
    }

    /// The object with exactly this key: the first one of all that begin with it.
    private func object(_ key: String, deadline: Deadline) throws(MCFSError) -> S3Object? {
        let page = try client.page(prefix: key, token: nil, count: 1, deadline: deadline)
        return page.objects.first { $0.key == Array(key.utf8) }
    }

    private func objects(below folder: String, deadline: Deadline) throws(MCFSError) -> [S3Object] {
        var objects: [S3Object] = []
        var token: String?
        var pages = 0
        let budget = MetadataBudget()
        repeat {
            let page = try client.page(prefix: folder, token: token, deadline: deadline)
            // What does not begin with the prefix is another server's idea of it.
            let found = page.objects.filter { $0.key.starts(with: folder.utf8) }
            try budget.take(entries: found.count, bytes: found.reduce(0) { $0 + $1.memoryBytes }, of: "\(location)")
            objects += found
            pages += 1
            guard pages <= Self.pagesMax else {
                throw MCFSError(.corrupt, "cannot list \(location): the pages of its listing do not end")
            }
            guard page.nextToken == nil || page.nextToken != token else {
                throw MCFSError(.corrupt, "cannot list \(location): the server gives the same page again")
            }
            token = page.nextToken
        } while token != nil
        return objects
    }

    /// The client for the endpoint where the object was listed, which is not always the one that is configured now.
    private func client(for descriptor: SourceDescriptor) throws(MCFSError) -> S3Client {
        let bucket = descriptor["bucket"] ?? location.bucket
        let endpoint = descriptor["endpoint"] ?? client.configuration.endpointIdentity
        if bucket == location.bucket, endpoint == client.configuration.endpointIdentity { return client }
        let name = "\(endpoint) \(bucket)"
        if let known = others.withLock({ $0[name] }) { return known }
        var configuration = client.configuration
        configuration.endpoint = endpoint.hasPrefix("amazonaws.com") ? nil : try AWSConfiguration.endpoint(endpoint)
        let made = S3Client(
            bucket: bucket, configuration: configuration,
            credentials: AWSCredentialChain(environment: environment, configuration: configuration, http: http),
            http: http,
            region: descriptor["region"].flatMap { S3Error.isRegion($0) ? $0 : nil })
        others.withLock { $0[name] = made }
        return made
    }
}
