package import Catalog
internal import FoundationEssentials
internal import Glibc
package import Logging
package import MCFSCore
internal import Synchronization
package import Transport

/// A repository of the Hugging Face Hub at one commit: `hf://[datasets/|spaces/]ORG/NAME[@REVISION][/SUBDIR]`.
///
/// The branch or tag is resolved to a commit once; all that follows names the commit. Large files are known by the SHA-256
/// and small ones by the git id of their content, so both can be checked, and are stored once however they came.
package final class HubOrigin: Origin {
    package let reference: String

    private let parsed: HubReference
    private let client: HubClient
    private let logger: Logger
    private let now: @Sendable () -> Int64
    /// So that two openings of a file share its signed URL.
    private let sources = Lock<[String: RetryingSource]>([:])
    private static let sourcesMax = 8192

    /// - Throws: `usage` for a malformed reference, `configuration` for an `HF_ENDPOINT` that is no URL.
    package convenience init(
        _ reference: String, environment: Environment, http: HTTPClient, logger: Logger
    ) throws(MCFSError) {
        let client = try HubClient(environment: environment, http: http)
        try self.init(reference, client: client, logger: logger, now: { Int64(time(nil)) })
    }

    /// - Parameter now: seconds since 1970.
    init(
        _ reference: String, client: HubClient, logger: Logger, now: @escaping @Sendable () -> Int64
    ) throws(MCFSError) {
        self.reference = reference
        self.client = client
        self.logger = logger
        self.now = now
        parsed = try HubReference(reference)
    }

    // MARK: Resolving

    private struct Repository: Decodable {
        /// `false`, `"auto"` or `"manual"`.
        struct Gate: Decodable {
            var isClosed: Bool
            init(from decoder: any Decoder) throws {
                let container = try decoder.singleValueContainer()
                isClosed = (try? container.decode(Bool.self)) ?? !container.decodeNil()
            }
        }

        var sha: String?
        var gated: Gate?
    }

    package func resolve(deadline: Deadline) throws(MCFSError) -> Catalog.Resolution {
        let repository = parsed.repository
        let refusal = client.refusal("resolve \(reference)", repository, revision: parsed.revision)
        let revision = HubReference.percentEncoded(parsed.revision, keepsSlashes: false)
        let response = try client.get(repository.apiPath + "/revision/" + revision, refusal, deadline: deadline)
        guard let answer = try? JSONDecoder().decode(Repository.self, from: Data(response.body)),
            let commit = answer.sha, HubReference.isCommit(commit)
        else {
            throw refusal.failure(.corrupt, "the Hub's answer names no commit; check HF_ENDPOINT")
        }
        if let gate = answer.gated, gate.isClosed { try checkAccess(refusal, deadline: deadline) }
        logger.debug("resolved", metadata: ["reference": "\(reference)", "commit": "\(commit)"])
        return Catalog.Resolution(
            reference: reference, resolved: parsed.pinned(to: commit), treeKey: treeKey(commit: commit))
    }

    /// Anyone may list a gated repository; whether its files may be read is said here rather than by the first read.
    private func checkAccess(_ refusal: HubRefusal, deadline: Deadline) throws(MCFSError) {
        do throws(MCFSError) {
            _ = try client.get(parsed.repository.apiPath + "/auth-check", refusal, deadline: deadline)
        } catch {
            // A mirror may not have this question; its reads will tell.
            if error.code == .unauthorized { throw error }
            logger.debug("access not checked", metadata: ["reference": "\(reference)", "why": "\(error.message)"])
        }
    }

    private func treeKey(commit: String) -> String {
        let id = BlobID(
            origin: "hf", client.endpoint, parsed.repository.kind.rawValue, parsed.repository.id, commit,
            parsed.subdirectory.description)
        return "hf-" + id.bytes.hex
    }

    // MARK: Tree

    package func tree(of resolution: Catalog.Resolution, loading: TreeLoading) throws(MCFSError) -> Tree {
        let pinned = try pinned(resolution)
        let listing = HubListing(
            client: client, repository: pinned.repository, commit: pinned.revision, subdirectory: pinned.subdirectory)
        var builder = TreeBuilder()
        var count: UInt64 = 0
        let progress = loading.progress
        var unknownTypes = 0
        try listing.read(deadline: loading.deadline) { (entry) throws(MCFSError) in
            guard try Self.add(entry, to: &builder, below: pinned.subdirectory, of: resolution.resolved) else {
                unknownTypes += 1
                return
            }
            count += 1
            if count.isMultiple(of: 1000) { progress.report(phase: "listing", done: count, total: nil) }
        }
        if unknownTypes > 0 {
            logger.warning(
                "entries of an unknown type are left out",
                metadata: ["reference": "\(resolution.resolved)", "count": "\(unknownTypes)"])
        }
        progress.report(phase: "listing", done: count, total: count)
        return try builder.build()
    }

    /// - Returns: false for a type that is neither file nor folder.
    private static func add(
        _ entry: HubListingEntry, to builder: inout TreeBuilder, below subdirectory: TreePath, of name: String
    ) throws(MCFSError) -> Bool {
        func corrupt(_ why: String) -> MCFSError {
            MCFSError(.corrupt, "cannot list \(name): \(why); check HF_ENDPOINT")
        }
        guard let path = try TreePath(entry.path).removing(prefix: subdirectory) else {
            throw corrupt("the Hub lists '\(entry.path)', which lies outside of '\(subdirectory)'")
        }
        let modified = Timestamp(seconds: entry.lastCommit?.date.flatMap(CivilTime.seconds(of:)) ?? 0)
        if path.isRoot {
            guard entry.type == "directory" else { throw corrupt("'\(subdirectory)' is a file, not a folder") }
            return true
        }
        switch entry.type {
        case "directory":
            try builder.add(TreeEntry(path, .directory, permissions: 0o755, modified: modified))
        case "file":
            let etag = entry.lfs?.oid ?? entry.oid
            guard let size = (entry.lfs?.size ?? entry.size).flatMap({ OutsideNumber.byteCount($0) }),
                let bytes = [UInt8](hex: etag),
                let id = BlobID(entry.lfs == nil ? .git : .sha256, bytes)
            else { throw corrupt("the Hub gives no usable size and digest for '\(entry.path)'") }
            var properties = ["kind": "hf", "path": entry.path, "size": String(size), "etag": etag]
            if entry.lfs != nil { properties["large"] = "true" }
            let source = builder.addSource(SourceDescriptor(properties))
            let content = Content(id: id, size: size, source: source, offset: 0)
            try builder.add(TreeEntry(path, .file(content), permissions: 0o644, modified: modified))
        default:
            return false
        }
        return true
    }

    // MARK: Bytes

    package func source(
        _ descriptor: SourceDescriptor, of resolution: Catalog.Resolution
    ) throws(MCFSError) -> any ByteSource {
        let pinned = try pinned(resolution)
        guard descriptor["kind"] == "hf", let path = descriptor["path"], let etag = descriptor["etag"],
            let size = descriptor["size"].flatMap({ OutsideNumber.byteCount($0) })
        else {
            throw MCFSError(
                .corrupt, "the stored tree of \(resolution.resolved) has a source that is no file of the Hub")
        }
        let file = HubFile(
            repository: pinned.repository, commit: pinned.revision, path: path, size: size, etag: etag,
            isLarge: descriptor["large"] != nil)
        return sources.withLock { sources in
            if let source = sources[file.description] { return source }
            if sources.count >= Self.sourcesMax { sources = [:] }
            let source = RetryingSource(HubFileSource(file, client: client, now: now))
            sources[file.description] = source
            return source
        }
    }

    private func pinned(_ resolution: Catalog.Resolution) throws(MCFSError) -> HubReference {
        let pinned = try HubReference(resolution.resolved)
        guard pinned.isPinned else {
            throw MCFSError(.corrupt, "'\(resolution.resolved)' names no commit; mount the reference again")
        }
        return pinned
    }
}
