package import MCFSCore

/// Reads one byte range of an HTTP resource and accepts nothing else in its place.
package struct RangeReader: Sendable {
    package init(client: HTTPClient) {}

    /// What an answer must show to be the version that was resolved. nil: not checked.
    package struct Expectation: Sendable {
        package var size: UInt64?
        package var etag: String?
        package var lastModified: String?
        package init(size: UInt64? = nil, etag: String? = nil, lastModified: String? = nil) {
            self.size = size
            self.etag = etag
            self.lastModified = lastModified
        }
    }

    /// How a read ended when the server answered something that only the origin can judge.
    package enum Outcome: Sendable {
        /// All bytes were delivered.
        case complete
        /// Any other status, with headers and a bounded body: redirect, 401, 403, 404, 412, 416, 429, 5xx.
        case answered(HTTPResponse)
    }

    /// Sends `request` with a `Range` header for `range` (and `Accept-Encoding: identity`) and delivers exactly those bytes.
    ///
    /// A 206 must carry the right `Content-Range`, total, validators and no `Content-Encoding`; a 200 is accepted where
    /// it is the whole resource (bytes before the range are skipped, after it the transfer is ended).
    /// - Throws: `changed` where size or validators differ, `originUnavailable` (transient) for a cut body.
    package func read(
        _ range: ByteRange, _ request: HTTPRequest, expecting expectation: Expectation, deadline: Deadline,
        into sink: any ByteSink
    ) throws(MCFSError) -> Outcome {
        throw MCFSError(.unsupported, "not written yet")
    }
}
