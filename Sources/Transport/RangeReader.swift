package import MCFSCore

/// Reads one byte range of an HTTP resource and accepts nothing else in its place.
package struct RangeReader: Sendable {
    private let client: HTTPClient

    package init(client: HTTPClient) { self.client = client }

    /// What an answer must show to be the version that was resolved. nil: not checked.
    package struct Expectation: Sendable {
        package var size: UInt64?
        package var etag: String?
        package var lastModified: String?
        /// Whether `Content-Encoding` is only what somebody noted with the resource, as in S3, which always sends the
        /// bytes that it stores; else it would mean that other bytes are sent.
        package var encodingIsMetadata: Bool

        package init(
            size: UInt64? = nil, etag: String? = nil, lastModified: String? = nil, encodingIsMetadata: Bool = false
        ) {
            self.size = size
            self.etag = etag
            self.lastModified = lastModified
            self.encodingIsMetadata = encodingIsMetadata
        }
    }

    /// How a read ended when the server answered something that only the origin can judge.
    package enum Outcome: Sendable {
        /// All bytes were delivered.
        case complete
        /// Any other status, with headers and a bounded body: redirect, 401, 403, 404, 412, 416, 429, 5xx.
        case answered(HTTPResponse)
    }

    /// Longest body of another status that is kept, in bytes; the rest of a longer one is dropped.
    package static let answerBytesMax = 64 << 10

    /// Sends `request` with a `Range` header for `range` (and `Accept-Encoding: identity`) and delivers exactly those bytes.
    ///
    /// A 206 must carry the right `Content-Range`, total, validators and no `Content-Encoding`; a 200 is accepted where
    /// it is the whole resource (bytes before the range are skipped, after it the transfer is ended). A 206 may end
    /// before the range does: what it has is delivered, and the rest is an error to resume from.
    /// A `Last-Modified` that is missing is not checked, as answers to `If-Range` may leave it out.
    /// - Throws: `changed` where size or validators differ, `originUnavailable` (transient) for a cut body.
    package func read(
        _ range: ByteRange, _ request: HTTPRequest, expecting expectation: Expectation, deadline: Deadline,
        into sink: any ByteSink
    ) throws(MCFSError) -> Outcome {
        if range.isEmpty { return .complete }
        var request = request
        request.headers.removeAll { ["range", "accept-encoding"].contains($0.name.lowercased()) }
        request.headers += [("Range", "bytes=\(range.httpDescription)"), ("Accept-Encoding", "identity")]
        let endpoint = request.endpoint
        let slice = RangeSlice(range, endpoint: endpoint, sink: sink)
        do throws(MCFSError) {
            _ = try client.perform(request, deadline: deadline) { response throws(MCFSError) in
                let check = RangeCheck(range: range, expectation: expectation, endpoint: endpoint, response: response)
                slice.begin(response, body: try check.bodyRange())
                return slice
            }
        } catch {
            if !slice.isEnded { throw error }
        }
        if let answer = slice.answer { return .answered(answer) }
        guard slice.isComplete else {
            throw MCFSError(
                .originUnavailable, "\(endpoint) sent \(slice.deliveredCount) of \(range.count) bytes of a range",
                isTransient: true)
        }
        return .complete
    }
}
