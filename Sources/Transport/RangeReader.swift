package import MCFSCore

/// Reads one byte range of an HTTP resource and accepts nothing else in its place.
package struct RangeReader: Sendable {
    private let client: HTTPClient

    package init(client: HTTPClient) { self.client = client }

    /// What an answer must show to be the version that was resolved. nil: not checked.
    package struct Expectation: Sendable {
        package var size: UInt64?
        /// A weak one is compared as such: `W/` in front of either means nothing then.
        package var etag: String?
        package var lastModified: String?
        /// Seconds since 1970 that `Last-Modified` may stand for.
        package var modifiedSeconds: ClosedRange<Int64>?
        /// Whether `Content-Encoding` is only what somebody noted with the resource, as in S3, which always sends the
        /// bytes that it stores; else it would mean that other bytes are sent.
        package var encodingIsMetadata: Bool
        /// Whether the caller has a digest of what it reads, so that other bytes are found out later.
        package var isVerified: Bool

        package init(
            size: UInt64? = nil, etag: String? = nil, lastModified: String? = nil,
            modifiedSeconds: ClosedRange<Int64>? = nil, encodingIsMetadata: Bool = false, isVerified: Bool = false
        ) {
            self.size = size
            self.etag = etag
            self.lastModified = lastModified
            self.modifiedSeconds = modifiedSeconds
            self.encodingIsMetadata = encodingIsMetadata
            self.isVerified = isVerified
        }
    }

    /// How a read ended when the server answered something that only the origin can judge.
    package enum Outcome: Sendable {
        /// All bytes were delivered.
        case complete
        /// Any other status, with headers and a bounded body: redirect, 401, 403, 404, 412, 416, 429, 5xx. Also 200, where
        /// `encodingIsMetadata` and the server says that it stores the resource in another encoding than it sends.
        case answered(HTTPResponse)
    }

    /// Says in which encoding Cloud Storage stores a resource.
    package static let storedEncodingHeader = "x-goog-stored-content-encoding"

    /// Longest body of another status that is kept, in bytes; the rest of a longer one is dropped.
    package static let answerBytesMax = 64 << 10

    /// Sends `request` with a `Range` header for `range` (and `Accept-Encoding`) and delivers exactly those bytes.
    ///
    /// A 206 must carry the right `Content-Range`, total, validators and no `Content-Encoding`; a 200 is accepted where
    /// it is the whole resource (bytes before the range are skipped, after it the transfer is ended). One that does not say
    /// how long it is, and is not verified, delivers nothing before it ended as it should. A 206 may end
    /// before the range does: what it has is delivered, and the rest is an error to resume from.
    /// A `Last-Modified` that is missing is not checked, as answers to `If-Range` may leave it out.
    /// - Throws: `changed` where size or validators differ, `originUnavailable` (transient) for a cut body.
    package func read(
        _ range: ByteRange, _ request: HTTPRequest, expecting expectation: Expectation,
        accepting encoding: String = "identity", deadline: Deadline, into sink: any ByteSink
    ) throws(MCFSError) -> Outcome {
        if range.isEmpty { return .complete }
        var request = request
        request.headers.removeAll { ["range", "accept-encoding"].contains($0.name.lowercased()) }
        request.headers += [("Range", "bytes=\(range.httpDescription)"), ("Accept-Encoding", encoding)]
        let endpoint = request.endpoint
        let slice = RangeSlice(range, endpoint: endpoint, sink: sink)
        do throws(MCFSError) {
            _ = try client.perform(request, deadline: deadline) { response throws(MCFSError) in
                let check = RangeCheck(range: range, expectation: expectation, endpoint: endpoint, response: response)
                slice.begin(response, body: try check.bodyRange(), isVerified: expectation.isVerified)
                return slice
            }
        } catch {
            if !slice.isEnded { throw error }
        }
        if let answer = slice.answer { return .answered(answer) }
        try slice.finish(deadline: deadline)
        guard slice.isComplete else {
            throw MCFSError(
                .originUnavailable, "\(endpoint) sent \(slice.deliveredCount) of \(range.count) bytes of a range",
                isTransient: true)
        }
        return .complete
    }
}
