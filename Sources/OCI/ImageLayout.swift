package import MCFSCore
internal import Synchronization

/// An OCI image layout (image-spec image-layout.md): a directory, or a `.tar` of one, which is read in place.
///
/// Opens nothing before it is asked. Thread safe.
package final class ImageLayout: ImageStore {
    package static let scheme = "oci-layout:"

    /// Of the directory or the tar; absolute.
    package let path: String
    package let tag: String?
    package let digest: Digest?
    private let opened = Lock<LayoutFiles?>(nil)

    private static let tagAnnotations = ["org.opencontainers.image.ref.name", "io.containerd.image.name"]

    /// - Parameters:
    ///   - text: `DIR[:TAG][@DIGEST]`, with or without `oci-layout:`.
    ///   - exists: whether something is at a path, which tells a `:` in a folder's name from the one before a tag.
    /// - Throws: `usage`.
    package init(_ text: String, exists: (String) -> Bool = pathExists) throws(MCFSError) {
        var rest = text.hasPrefix(Self.scheme) ? String(text.dropFirst(Self.scheme.count)) : text
        if let at = rest.lastIndex(of: "@"), let digest = Digest(rest[rest.index(after: at)...]) {
            self.digest = digest
            rest = String(rest[..<at])
        } else {
            digest = nil
        }
        let colons = rest.indices.filter { rest[$0] == ":" }
        let mark: String.Index?
        if colons.isEmpty || exists(rest) {
            mark = nil
        } else {
            let nameStart = rest.lastIndex(of: "/") ?? rest.startIndex
            mark = colons.first { exists(String(rest[..<$0])) } ?? colons.first { $0 > nameStart }
        }
        path = mark.map { String(rest[..<$0]) } ?? rest
        tag = mark.map { String(rest[rest.index(after: $0)...]) }
        guard !path.isEmpty, tag?.isEmpty != true else {
            throw MCFSError(.usage, "'\(text)' is no image layout; write \(Self.scheme)DIR or \(Self.scheme)DIR:TAG")
        }
    }

    package var name: String { "the image layout \(path)" }

    /// The immutable form, which can be typed back.
    package func resolved(to digest: Digest) -> String { "\(Self.scheme)\(path)@\(digest)" }

    /// What the tag stands for now; without one, the only image there is.
    /// - Throws: `notFound`, with the tags there are; `usage` where one has to be chosen.
    package func resolve(for platform: PlatformChoice, deadline: Deadline) throws(MCFSError) -> Digest {
        if let digest { return digest }
        let files = try reopen(deadline)
        guard let bytes = try files.read("index.json", deadline: deadline) else {
            throw MCFSError(.notFound, "\(name) has no index.json, so it is no image layout")
        }
        guard case .index(let index) = try ManifestDocument(bytes, what: "index.json of \(name)") else {
            throw MCFSError(.corrupt, "index.json of \(name) is not an image index")
        }
        let candidates = try candidates(index.manifests)
        guard candidates.count > 1 else { return candidates[0].digest }
        guard let chosen = platform.choose(from: candidates) else {
            throw MCFSError(
                .notFound, "\(name) has no image for \(platform.host), only for: \(PlatformChoice.list(candidates))")
        }
        return chosen.digest
    }

    /// - Returns: at least one.
    private func candidates(_ manifests: [Descriptor]) throws(MCFSError) -> [Descriptor] {
        let tags = Set(manifests.flatMap(Self.tags)).sorted()
        let listed = tags.isEmpty ? "it has no tags" : "it has: \(tags.prefix(20).joined(separator: ", "))"
        if let tag {
            let named = manifests.filter { Self.tags($0).contains(tag) }
            guard !named.isEmpty else { throw MCFSError(.notFound, "\(name) has no tag '\(tag)'; \(listed)") }
            return named
        }
        let images = manifests.filter { !PlatformChoice.isAttestation($0) }
        guard !images.isEmpty else { throw MCFSError(.notFound, "\(name) holds no image") }
        // The same name for several platforms is one image.
        guard Set(images.map(Self.tags)).count == 1 else {
            throw MCFSError(
                .usage, "\(name) holds \(images.count) images; name one as \(Self.scheme)\(path):TAG, \(listed)")
        }
        return images
    }

    private static func tags(_ descriptor: Descriptor) -> [String] {
        tagAnnotations.compactMap { descriptor.annotations[$0] }
    }

    package func manifest(_ digest: Digest, deadline: Deadline) throws(MCFSError) -> [UInt8] {
        let files = try files(deadline)
        guard let bytes = try files.read(Self.blobPath(digest), deadline: deadline) else {
            throw MCFSError(.notFound, "\(name) has no manifest \(digest)")
        }
        try check(bytes, against: digest, what: "the manifest \(digest) of \(name)")
        return bytes
    }

    package func blob(_ digest: Digest, size: UInt64) -> any ByteSource {
        LayoutBlobSource(self, digest: digest, size: size)
    }

    /// Opens a blob.
    /// - Throws: `notFound` where the layout has only a part of its image, `corrupt` where the size is another.
    func open(_ digest: Digest, size: UInt64, deadline: Deadline) throws(MCFSError) -> FileBlobSource {
        guard let source = try files(deadline).open(Self.blobPath(digest), deadline: deadline) else {
            throw MCFSError(.notFound, "\(name) has no blob \(digest); it holds only a part of the image")
        }
        guard source.size == size else {
            throw MCFSError(
                .corrupt, "the blob \(digest) of \(name) has \(source.size) bytes where its manifest says \(size)")
        }
        return source
    }

    private static func blobPath(_ digest: Digest) -> String { "blobs/\(digest.algorithm.rawValue)/\(digest.hex)" }

    private func files(_ deadline: Deadline) throws(MCFSError) -> LayoutFiles {
        if let files = opened.withLock({ $0 }) { return files }
        return try reopen(deadline)
    }

    /// What is at the path now: it may have been written anew.
    private func reopen(_ deadline: Deadline) throws(MCFSError) -> LayoutFiles {
        let files = try LayoutFiles(path: path, deadline: deadline)
        opened.withLock { $0 = files }
        return files
    }
}

/// A layout's blob that is opened by its first read, so that what is local can be served while the layout is away.
final class LayoutBlobSource: ByteSource {
    private let layout: ImageLayout
    private let digest: Digest
    private let size: UInt64
    private let opened = Lock<FileBlobSource?>(nil)

    init(_ layout: ImageLayout, digest: Digest, size: UInt64) {
        self.layout = layout
        self.digest = digest
        self.size = size
    }

    var name: String { "blob \(digest) of \(layout.name)" }
    var hasRandomAccess: Bool { true }
    var isLocal: Bool { true }

    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        try source(deadline).read(range, deadline: deadline, into: sink)
    }

    private func source(_ deadline: Deadline) throws(MCFSError) -> FileBlobSource {
        if let source = opened.withLock({ $0 }) { return source }
        let source = try layout.open(digest, size: size, deadline: deadline)
        opened.withLock { $0 = source }
        return source
    }
}
