package import Logging
package import MCFSCore
internal import Synchronization
package import Transport

/// Reads one repository of a registry (distribution-spec "Pull"), through mirrors where the host's configuration names some.
///
/// Thread safe. Requests for manifests are repeated a few times here; blobs are repeated by `RetryingSource`.
package final class RegistryClient: ImageStore {
    /// How often and after which waits a transient failure is tried again. A value, so that tests wait for nothing.
    package struct Retries: Sendable {
        package var attemptsMax = 5
        package var firstDelay = Duration.milliseconds(250)
        /// As that of `RetryPolicy`.
        package var sleep: (@Sendable (Duration) -> Void)?
        package init() {}
    }

    package let image: ImageReference
    let http: HTTPClient
    let auth: RegistryAuth
    let logger: Logger
    let hosts: [RegistryHost]
    private let retries: Retries
    private let known = Lock<[Digest: [UInt8]]>([:])
    /// Mirrors to leave alone until an instant, by base URL, or base URL and path for those that merely lack a blob.
    let resting = Lock<[String: ContinuousClock.Instant]>([:])

    /// A mirror that does not answer must leave time for the registry.
    static let mirrorTimeout = Duration.seconds(10)
    static let mirrorRest = Duration.seconds(30)
    /// Manifests kept in memory, so that resolving and building a tree ask for each once; longer ones are not kept.
    private static let knownCountMax = 8
    private static let knownBytesMax = 4 << 20

    /// - Throws: `configuration` for a `hosts.toml` that cannot be used.
    package init(
        _ image: ImageReference, environment: Environment, http: HTTPClient, logger: Logger,
        retries: Retries = Retries()
    ) throws(MCFSError) {
        self.image = image
        self.http = http
        self.logger = logger
        self.retries = retries
        hosts = try RegistryHosts(registry: image.host, environment: environment).hosts
        auth = RegistryAuth(
            http: http, credentials: DockerCredentials(environment: environment), repository: image.repository)
    }

    package var name: String { image.name }

    /// What the tag stands for now. Asks with HEAD, which counts against no pull limit.
    /// - Throws: `notFound`, naming what is missing; `unauthorized`; `originUnavailable`.
    package func resolve(deadline: Deadline) throws(MCFSError) -> Digest {
        if let digest = image.digest { return digest }
        let tag = image.manifestReference
        return try retrying(deadline) { () throws(MCFSError) in
            try ask(
                .resolve, "manifests/\(tag)", "cannot resolve the tag '\(tag)' of \(name)", missing: "tag '\(tag)'",
                deadline: deadline
            ) { host, path, deadline throws(MCFSError) in
                try self.resolve(path, at: host, deadline: deadline)
            }
        }
    }

    package func manifest(_ digest: Digest, deadline: Deadline) throws(MCFSError) -> [UInt8] {
        if let bytes = known.withLock({ $0[digest] }) { return bytes }
        let bytes = try retrying(deadline) { () throws(MCFSError) in
            try ask(
                .pull, "manifests/\(digest)", "cannot read the manifest \(digest) of \(name)",
                missing: "manifest \(digest)", deadline: deadline
            ) { host, path, deadline throws(MCFSError) in
                let exchange = try self.fetchManifest(path, at: host, deadline: deadline)
                if case .done(let bytes) = exchange {
                    try check(bytes, against: digest, what: "the manifest of \(self.name) from \(host.authority)")
                }
                return exchange
            }
        }
        remember(bytes, as: digest)
        return bytes
    }

    package func blob(_ digest: Digest, size: UInt64) -> any ByteSource {
        let logger = logger
        return RetryingSource(RegistryBlobSource(self, digest: digest, size: size)) { error in
            logger.debug("a read is repeated", metadata: ["digest": "\(digest)", "error": "\(error)"])
        }
    }

    private func resolve(_ path: String, at host: RegistryHost, deadline: Deadline) throws(MCFSError) -> Exchange<
        Digest
    > {
        let head = try exchange(host, path, method: "HEAD", deadline: deadline) { request throws(MCFSError) in
            Exchange<Digest>.answered(try self.http.perform(request, deadline: deadline))
        }
        if case .answered(let answer) = head {
            if answer.status == 200,
                let digest = answer["Docker-Content-Digest"].flatMap({ Digest($0.trimmingWhitespace()) })
            {
                return .done(digest)
            }
            // Some registries refuse HEAD or leave the digest out, and only the body of a GET says what is missing.
            guard [200, 400, 404, 405, 501].contains(answer.status) else { return head }
        }
        switch try fetchManifest(path, at: host, deadline: deadline) {
        case .done(let bytes):
            let digest = Digest.of(bytes, .sha256)
            remember(bytes, as: digest)
            return .done(digest)
        case .answered(let answer): return .answered(answer)
        }
    }

    private func fetchManifest(
        _ path: String, at host: RegistryHost, deadline: Deadline
    ) throws(MCFSError) -> Exchange<[UInt8]> {
        try exchange(host, path, method: "GET", deadline: deadline) { request throws(MCFSError) in
            let sink = BoundedSink(
                bytesMax: ManifestDocument.bytesMax, what: "the manifest of \(self.name) from \(host.authority)")
            var answer = try self.http.perform(request, deadline: deadline) { _ throws(MCFSError) in sink }
            if answer.status == 200 { return .done(sink.bytes) }
            answer.body = sink.bytes
            return .answered(answer)
        }
    }

    private func remember(_ bytes: [UInt8], as digest: Digest) {
        guard bytes.count <= Self.knownBytesMax else { return }
        known.withLock { known in
            if known.count >= Self.knownCountMax { known.removeAll() }
            known[digest] = bytes
        }
    }

    private func retrying<Value>(
        _ deadline: Deadline, _ body: () throws(MCFSError) -> Value
    ) throws(MCFSError) -> Value {
        var policy = RetryPolicy()
        policy.firstDelay = retries.firstDelay
        policy.triesMax = retries.attemptsMax
        policy.sleep = retries.sleep
        return try policy.retrying(
            until: deadline,
            onRetry: { error in
                logger.debug("a request is repeated", metadata: ["image": "\(name)", "error": "\(error)"])
            }, body)
    }
}
