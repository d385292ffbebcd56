internal import MCFSCore
internal import Transport

/// One file of an HTTP server as it was found: what pins its version.
struct HTTPFile: Sendable {
    /// As it may be stored: no credential, no signature.
    var url: String
    /// Stands for the URL with everything in it, also what is not stored.
    var place: String
    /// Bytes; nil where only reading it to the end tells.
    var size: UInt64?
    /// As sent, weak or strong.
    var etag: String?
    var modified: String?
    var hasRanges: Bool
    /// Makes what was found now a version of its own where the server tells none: nothing says later whether the file is
    /// still the same one.
    var nonce: String?

    init(_ location: HTTPLocation, _ answer: HTTPResponse, size: UInt64?, hasRanges: Bool) {
        url = location.shown.text
        place = Digest.sha256(of: location.text.utf8).hex
        etag = answer["ETag"]
        modified = answer["Last-Modified"]
        self.size = size
        self.hasRanges = hasRanges
        if etag == nil, modified == nil { nonce = "\(UInt64.random(in: 0...UInt64.max))" }
    }

    /// Everything that the server says about the version.
    private var version: [String] { [etag ?? "", modified ?? "", nonce ?? ""] }

    /// Everything that a tree's key depends on.
    var keyParts: [String] { [place] + version + [size.map { "\($0)" } ?? "?", hasRanges ? "ranges" : ""] }

    /// For a file of a known size that has no digest.
    func identity(size: UInt64) -> BlobID {
        BlobID(origin: "http", place, version[0], version[1], version[2], "\(size)")
    }

    var timestamp: Timestamp {
        Timestamp(seconds: modified.flatMap { HTTPDate.parse($0) } ?? 0)
    }

    func descriptor(size: UInt64, digest: Digest?) -> SourceDescriptor {
        var properties = ["kind": "http", "url": url, "size": "\(size)"]
        properties["etag"] = etag
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
        // Some servers send the part, and say so, under a status of 200.
        case 206,
            200 where answer["Content-Range"] != nil:
            try refuseEncoding(answer, location)
            if let total = try total(answer, location) {
                return .file(HTTPFile(location, answer, size: total, hasRanges: true))
            }
            return try lookWhole(location, deadline)
        case 200:
            try refuseEncoding(answer, location)
            try refusePage(answer, location)
            let size = try length(answer, location)
            return .file(HTTPFile(location, answer, size: size, hasRanges: false))
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
        let size = try length(answer, location)
        return .file(HTTPFile(location, answer, size: size, hasRanges: size == 0))
    }

    /// T in `Content-Range: bytes 0-0/T`.
    private func total(_ answer: HTTPResponse, _ location: HTTPLocation) throws(MCFSError) -> UInt64? {
        guard let total = answer["Content-Range"]?.split(separator: "/").last else { return nil }
        return try OutsideNumber.byteCount(total, of: location.shown.text)
    }

    private func length(_ answer: HTTPResponse, _ location: HTTPLocation) throws(MCFSError) -> UInt64? {
        guard let length = answer["Content-Length"] else { return nil }
        return try OutsideNumber.byteCount(length, of: location.shown.text)
    }

    /// Single sign-on and captive portals answer 200 with a page of theirs. Servers that send files answer in ranges, so a file
    /// with an odd type is not taken for one.
    private func refusePage(_ answer: HTTPResponse, _ location: HTTPLocation) throws(MCFSError) {
        guard HTTPIndex.isPage(answer), let name = location.path.split(separator: "/").last,
            let dot = name.lastIndex(of: "."),
            !Self.pageExtensions.contains(name[name.index(after: dot)...].lowercased())
        else { return }
        throw MCFSError(
            .originUnavailable,
            "\(location.shown.text) is answered with a web page where a file was expected, such as a page to log in; check the URL, and write \(location.scheme)://USER:PASSWORD@\(location.authority)/… where a login is needed"
        )
    }

    private static let pageExtensions: Set = ["html", "htm", "xhtml", "shtml", "php", "asp", "aspx", "jsp", "cgi"]

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
