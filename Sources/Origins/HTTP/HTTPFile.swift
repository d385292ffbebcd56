internal import MCFSCore
internal import Transport

/// One file of an HTTP server as it was found: what pins its version.
struct HTTPFile: Sendable {
    /// As it may be stored: no credential, no signature.
    var url: String
    /// Bytes; nil where only reading it to the end tells.
    var size: UInt64?
    /// As sent; only a strong one can pin ranges.
    var etag: String?
    var modified: String?
    var hasRanges: Bool

    var strongETag: String? { etag.flatMap { $0.hasPrefix("\"") ? $0 : nil } }

    /// What tells this version from others.
    var version: String {
        strongETag ?? [etag ?? "", modified ?? ""].joined(separator: " ")
    }

    var hasValidator: Bool { etag != nil || modified != nil }

    /// Everything that a tree's key depends on.
    var keyParts: [String] { [url, size.map { "\($0)" } ?? "?", version, hasRanges ? "ranges" : ""] }

    var timestamp: Timestamp {
        Timestamp(seconds: modified.flatMap { HTTPDate.parse($0) } ?? 0)
    }

    func descriptor(size: UInt64, digest: Digest?) -> SourceDescriptor {
        var properties = ["kind": "http", "url": url, "size": "\(size)"]
        properties["etag"] = strongETag
        properties["modified"] = modified
        properties["digest"] = digest?.description
        if !hasRanges { properties["ranges"] = "none" }
        return SourceDescriptor(properties)
    }
}

/// What stands behind a URL.
enum HTTPFinding: Sendable {
    case file(HTTPFile)
    /// The server sends on to the same name with a slash.
    case folder(HTTPLocation)
    /// It answered 404 or 410.
    case missing(MCFSError)
}

extension HTTPFetcher {
    /// Asks for the first byte: the answer shows size, validators and whether there are ranges.
    func look(at location: HTTPLocation, deadline: Deadline) throws(MCFSError) -> HTTPFinding {
        let (answer, place) = try get(location, headers: [("Range", "bytes=0-0")], deadline: deadline) { _ in false }
        switch answer.status {
        case 206:
            try refuseEncoding(answer, location)
            if let total = total(answer) { return .file(file(answer, location, size: total, hasRanges: true)) }
            return try lookWhole(location, deadline)
        case 200:
            try refuseEncoding(answer, location)
            return .file(
                file(answer, location, size: answer["Content-Length"].flatMap { UInt64($0) }, hasRanges: false))
        case 416:
            // No first byte: the file is empty, and the answer need not carry its validators.
            return try lookWhole(location, deadline)
        case 301, 302, 303, 307, 308:
            guard answer["Location"] != nil else {
                throw MCFSError(
                    .originUnavailable,
                    "\(location.shown.text) is said to be elsewhere (HTTP \(answer.status)), but not where; give the URL that it has now"
                )
            }
            return .folder(place.with(path: place.path + "/"))
        case 404, 410:
            return .missing(Self.error(answer, location))
        default:
            throw Self.error(answer, location)
        }
    }

    private func lookWhole(_ location: HTTPLocation, _ deadline: Deadline) throws(MCFSError) -> HTTPFinding {
        let (answer, _) = try get(location, deadline: deadline) { _ in false }
        guard answer.status == 200 else { throw Self.error(answer, location) }
        try refuseEncoding(answer, location)
        let size = answer["Content-Length"].flatMap { UInt64($0) }
        return .file(file(answer, location, size: size, hasRanges: size == 0))
    }

    private func file(_ answer: HTTPResponse, _ location: HTTPLocation, size: UInt64?, hasRanges: Bool) -> HTTPFile {
        HTTPFile(
            url: location.shown.text, size: size, etag: answer["ETag"], modified: answer["Last-Modified"],
            hasRanges: hasRanges)
    }

    /// T in `Content-Range: bytes 0-0/T`.
    private func total(_ answer: HTTPResponse) -> UInt64? {
        answer["Content-Range"]?.split(separator: "/").last.flatMap { UInt64($0) }
    }

    private func refuseEncoding(_ answer: HTTPResponse, _ location: HTTPLocation) throws(MCFSError) {
        guard let encoding = answer["Content-Encoding"], !encoding.isEmpty, encoding.lowercased() != "identity" else {
            return
        }
        throw MCFSError(
            .originUnavailable,
            "\(location.shown.text) is sent with Content-Encoding '\(encoding.prefix(40))' although that was not asked for; turn it off at the server"
        )
    }
}
