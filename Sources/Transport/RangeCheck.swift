internal import MCFSCore

/// Judges the head of an answer to a range request.
struct RangeCheck {
    let range: ByteRange
    let expectation: RangeReader.Expectation
    let endpoint: String
    let response: HTTPResponse

    /// Which bytes of the resource the body is; nil where the status is neither 200 nor 206, or where the body is not what
    /// the server stores. An upper bound of `UInt64.max` stands for an end that is not known.
    func bodyRange() throws(MCFSError) -> ByteRange? {
        guard response.status == 200 || response.status == 206, !isTranscoded else { return nil }
        try checkValidators()
        if let encoding = response["Content-Encoding"], encoding.lowercased() != "identity", !encoding.isEmpty,
            !expectation.encodingIsMetadata
        {
            throw MCFSError(
                .originUnavailable,
                "\(endpoint) sent a range with Content-Encoding '\(encoding.prefix(40))'; turn compression off there for these files"
            )
        }
        // rclone's S3 server sends the right part, and says so, under a status of 200.
        let isPart = response.status == 206 || response["Content-Range"] != nil
        return isPart ? try partRange() : try wholeRange()
    }

    /// Google's Cloud Storage takes the encoding off for whoever does not accept it, and says so in a header of its own.
    private var isTranscoded: Bool {
        guard expectation.encodingIsMetadata, let stored = response[RangeReader.storedEncodingHeader]?.lowercased(),
            !stored.isEmpty, stored != "identity"
        else { return false }
        return response["Content-Encoding"]?.lowercased() != stored
    }

    private func checkValidators() throws(MCFSError) {
        if let wanted = expectation.etag {
            guard let found = response["ETag"] else { throw changed("it has no ETag any more") }
            guard Self.isSame(found, wanted) else { throw changed("its ETag is another") }
        }
        guard let found = response["Last-Modified"] else { return }
        if let wanted = expectation.lastModified, found != wanted { throw changed("it was modified") }
        if let wanted = expectation.modifiedSeconds, let seconds = HTTPDate.parse(found), !wanted.contains(seconds) {
            throw changed("it was modified")
        }
    }

    private static func isSame(_ found: String, _ wanted: String) -> Bool {
        func opaque(_ tag: String) -> Substring { tag.hasPrefix("W/") ? tag.dropFirst(2) : tag[...] }
        return wanted.hasPrefix("W/") ? opaque(found) == opaque(wanted) : found == wanted
    }

    private func wholeRange() throws(MCFSError) -> ByteRange {
        let length = response["Content-Length"].flatMap { UInt64($0) }
        if let size = expectation.size, let length, size != length {
            throw changed("it has \(length) bytes instead of \(size)")
        }
        guard let size = length ?? expectation.size else { return ByteRange(0, UInt64.max) }
        guard range.upperBound <= size else { throw changed("it has \(size) bytes, which is less than was asked for") }
        return ByteRange(0, size)
    }

    private func partRange() throws(MCFSError) -> ByteRange {
        guard let (sent, total) = response["Content-Range"].flatMap(Self.parse) else {
            throw wrong("sent a range without a valid Content-Range")
        }
        if let size = expectation.size, let total, size != total {
            throw changed("it has \(total) bytes instead of \(size)")
        }
        guard sent.lowerBound == range.lowerBound, sent.upperBound <= range.upperBound else {
            throw wrong("sent bytes \(sent.httpDescription) instead of \(range.httpDescription)")
        }
        if let length = response["Content-Length"].flatMap({ UInt64($0) }), length != sent.count {
            throw wrong("announced \(length) bytes for a range of \(sent.count)")
        }
        return sent
    }

    /// `bytes A-B/TOTAL`, TOTAL `*` where it is not known.
    static func parse(_ text: String) -> (ByteRange, total: UInt64?)? {
        guard text.lowercased().hasPrefix("bytes") else { return nil }
        let parts = text.dropFirst(5).split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2 else { return nil }
        let bounds = parts[0].drop { $0 == " " || $0 == "=" }.split(separator: "-", omittingEmptySubsequences: false)
        guard bounds.count == 2, let first = UInt64(bounds[0]), let last = UInt64(bounds[1]), first <= last,
            last < UInt64.max
        else { return nil }
        if parts[1] == "*" { return (ByteRange(first, last + 1), nil) }
        guard let total = UInt64(parts[1]), last < total else { return nil }
        return (ByteRange(first, last + 1), total)
    }

    private func changed(_ how: String) -> MCFSError {
        MCFSError(
            .changed,
            "the content at \(endpoint) is not the one that was resolved: \(how); mount it again, or name one server where several with different copies answer to this name"
        )
    }

    private func wrong(_ what: String) -> MCFSError {
        MCFSError(.originUnavailable, "\(endpoint) \(what)", isTransient: true)
    }
}
