package import MCFSCore
internal import Transport

/// Where the manifests and blobs of one image lie: a repository of a registry, or an image layout. Thread safe.
package protocol ImageStore: AnyObject, Sendable {
    /// What messages call it.
    var name: String { get }

    /// The bytes of a manifest or index, checked against `digest`, at most `ManifestDocument.bytesMax`.
    func manifest(_ digest: Digest, deadline: Deadline) throws(MCFSError) -> [UInt8]

    /// Asks nothing of the network. Retries, credentials and redirects are inside.
    func blob(_ digest: Digest, size: UInt64) -> any ByteSource
}

extension ImageStore {
    /// A small blob as a whole, checked.
    /// - Throws: `corrupt` where it is longer than `ManifestDocument.bytesMax` or not what its digest says.
    package func bytes(of descriptor: Descriptor, what: String, deadline: Deadline) throws(MCFSError) -> [UInt8] {
        guard descriptor.size <= UInt64(ManifestDocument.bytesMax) else {
            throw MCFSError(
                .corrupt,
                "\(what) of \(name) is \(descriptor.size) bytes long; mcfs reads at most \(ManifestDocument.bytesMax)")
        }
        let sink = BoundedSink(bytesMax: Int(descriptor.size), what: "\(what) of \(name)")
        if descriptor.size > 0 {
            try blob(descriptor.digest, size: descriptor.size)
                .read(ByteRange(0, descriptor.size), deadline: deadline, into: sink)
        }
        let bytes = sink.bytes
        try check(bytes, against: descriptor.digest, what: "\(what) of \(name)")
        return bytes
    }

    /// Follows indexes from `root` to the manifest for this host.
    ///
    /// - Returns: the manifest with its own digest, which is `root` where no index stands before it.
    /// - Throws: `notFound` where an index has nothing for this host, `corrupt` where indexes nest too deep.
    package func select(
        _ root: Digest, for platform: PlatformChoice, deadline: Deadline
    ) throws(MCFSError) -> (digest: Digest, manifest: Manifest) {
        // Real indexes nest once (per model variant) at most.
        let depthMax = 4
        var digest = root
        for _ in 0...depthMax {
            let bytes = try manifest(digest, deadline: deadline)
            switch try ManifestDocument(bytes, what: "the manifest \(digest) of \(name)") {
            case .manifest(let manifest): return (digest, manifest)
            case .index(let index):
                guard let chosen = platform.choose(from: index.manifests) else {
                    throw MCFSError(
                        .notFound,
                        "\(name) has no image for \(platform.host), only for: \(PlatformChoice.list(index.manifests)); name one by its digest (@sha256:…)"
                    )
                }
                digest = chosen.digest
            }
        }
        throw MCFSError(.corrupt, "\(name) has indexes that nest deeper than \(depthMax) levels")
    }
}

/// - Throws: `corrupt`.
func check(_ bytes: [UInt8], against digest: Digest, what: String) throws(MCFSError) {
    guard Digest.of(bytes, digest.algorithm) == digest else {
        throw MCFSError(
            .corrupt, "\(what) does not match its digest \(digest); it was altered where it is stored or on the way")
    }
}
