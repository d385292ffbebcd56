internal import MCFSCore
internal import Synchronization
internal import Transport

/// Lists and reads one bucket. Signs every request, and mends once per request what the server's answer lets it mend:
/// the region, the clock, a credential that has expired.
///
/// Thread safe.
final class S3Client: Sendable {
    let bucket: String
    let configuration: AWSConfiguration
    private let credentials: AWSCredentialChain
    private let http: HTTPClient
    private let now: @Sendable () -> Timestamp
    private let pause: (@Sendable (Duration) -> Void)?
    private let state: Lock<State>

    private struct State {
        /// The bucket's.
        var region: String
        /// What the server's clock is ahead of ours, in seconds.
        var clockOffset: Int64 = 0
    }

    /// Of one page of a listing.
    private static let pageSeconds = Duration.seconds(30)
    private static let pageAttempts = 6

    init(
        bucket: String, configuration: AWSConfiguration, credentials: AWSCredentialChain, http: HTTPClient,
        region: String? = nil, now: @escaping @Sendable () -> Timestamp = S3Clock.now,
        pause: (@Sendable (Duration) -> Void)? = nil
    ) {
        self.bucket = bucket
        self.configuration = configuration
        self.credentials = credentials
        self.http = http
        self.now = now
        self.pause = pause
        state = Lock(State(region: region ?? configuration.signingRegion))
    }

    /// The bucket's, as far as it is known.
    var region: String { state.withLock { $0.region } }

    /// The page of keys that begin with `prefix` which `token` leads to; at most `count` keys.
    func page(
        prefix: String, token: String?, count: Int = 1000, deadline: Deadline
    ) throws(MCFSError) -> S3Page {
        var query = "?encoding-type=url&list-type=2&max-keys=\(count)&prefix=\(AWSSigner.encoded(prefix.utf8))"
        if let token { query = "?continuation-token=\(AWSSigner.encoded(token.utf8))&" + query.dropFirst() }
        let action = "list s3://\(bucket)/\(prefix)"
        let body = try retries.retrying(until: deadline) { () throws(MCFSError) in
            let limit = Deadline(after: Self.pageSeconds).earlier(deadline)
            return try exchange(action, key: nil, query: query, headers: [], deadline: limit) {
                [http] request throws(MCFSError) in
                let sink = BoundedSink(bytesMax: XMLNode.documentBytesMax, what: "the server's answer to a listing")
                var response = try http.perform(request, deadline: limit) { _ throws(MCFSError) in sink }
                response.body = sink.bytes
                return response.status == 200 ? .complete(response.body) : .refused(response)
            }
        }
        do throws(MCFSError) { return try S3Page(body) } catch {
            throw MCFSError(error.code, "cannot \(action): \(error.message)", cause: error)
        }
    }

    /// Delivers a range of an object, if it still is the one that was listed.
    ///
    /// - Parameter encoding: of `Accept-Encoding`.
    /// - Returns: nil where all bytes were delivered; else the encoding that the object is stored in and was not sent in.
    func read(
        _ object: S3Object, _ range: ByteRange, accepting encoding: String, deadline: Deadline, into sink: any ByteSink
    ) throws(MCFSError) -> String? {
        let key = String(decoding: object.key, as: UTF8.self)
        let reader = RangeReader(client: http)
        // Servers exist that ignore If-Match: the answer's own ETag and size are compared as well.
        let headers = object.etag.isEmpty ? [] : [(name: "If-Match", value: object.etag)]
        let expectation = RangeReader.Expectation(
            size: object.size, etag: object.etag.isEmpty ? nil : object.etag,
            modifiedSeconds: object.modifiedSeconds, encodingIsMetadata: true)
        return try exchange("read s3://\(bucket)/\(key)", key: key, query: "", headers: headers, deadline: deadline) {
            request throws(MCFSError) in
            let outcome = try reader.read(
                range, request, expecting: expectation, accepting: encoding, deadline: deadline, into: sink)
            return switch outcome {
            case .complete: .complete(nil)
            case .answered(let response) where [200, 206].contains(response.status):
                .complete(response[RangeReader.storedEncodingHeader]?.lowercased() ?? "gzip")
            case .answered(let response): .refused(response)
            }
        }
    }

    private enum Answer<Value> {
        case complete(Value)
        case refused(HTTPResponse)
    }

    private enum Remedy { case region, clock, credential, redirect }

    /// Makes one signed GET, and again after each remedy that the answer suggests; each is tried once.
    private func exchange<Value>(
        _ action: String, key: String?, query: String, headers: [(name: String, value: String)], deadline: Deadline,
        _ send: (HTTPRequest) throws(MCFSError) -> Answer<Value>
    ) throws(MCFSError) -> Value {
        var tried: Set<Remedy> = []
        var redirected: String?
        while true {
            let (region, offset) = state.withLock { ($0.region, $0.clockOffset) }
            let credential = try credentials.credentials(deadline: deadline)
            let url = redirected ?? configuration.url(bucket: bucket, key: key, region: region) + query
            var request = HTTPRequest("GET", url, headers: headers, tls: configuration.tls)
            if let credential {
                let signer = AWSSigner(key: credential.key, region: region, service: "s3")
                request = signer.signed(request, at: Timestamp(seconds: now().seconds + offset))
            }
            let response: HTTPResponse
            switch try send(request) {
            case .complete(let value): return value
            case .refused(let answer): response = answer
            }
            let error = S3Error(response)
            if error.isWrongRegion, let right = error.region, right != region, tried.insert(.region).inserted {
                state.withLock { $0.region = right }
                redirected = nil
                continue
            }
            if error.isClockSkewed, let date = error.date, tried.insert(.clock).inserted {
                let ahead = date - now().seconds
                state.withLock { $0.clockOffset = ahead }
                continue
            }
            if try renew(credential, after: error, deadline: deadline), tried.insert(.credential).inserted { continue }
            if error.status == 307, let target = error.location, isSafeRedirect(target, from: url),
                tried.insert(.redirect).inserted
            {
                redirected = target
                continue
            }
            throw error.error(
                cannot: action, bucket: bucket, credential: credential?.description ?? credentials.placesLookedAt)
        }
    }

    /// - Returns: whether the request may succeed with what is found now.
    private func renew(_ credential: AWSCredentials?, after error: S3Error, deadline: Deadline) throws(MCFSError)
        -> Bool
    {
        if credential == nil {
            guard error.isSignatureWanted else { return false }
            credentials.discard(nil)
            return try credentials.credentials(deadline: deadline) != nil
        }
        guard error.isCredentialRefused else { return false }
        credentials.discard(credential)
        return true
    }

    /// A redirect is signed anew for its host, which gets the key's name and a session's token to see: it has to belong to the
    /// same service. It must not lead from TLS to plain text.
    private func isSafeRedirect(_ target: String, from url: String) -> Bool {
        guard target.hasPrefix("https://") || (target.hasPrefix("http://") && url.hasPrefix("http://")) else {
            return false
        }
        let home = HTTPRequest("GET", configuration.url(bucket: bucket, key: nil, region: region)).endpoint.lowercased()
        let service = home.hasPrefix("\(bucket).") ? String(home.dropFirst(bucket.count + 1)) : home
        let host = HTTPRequest("GET", target).endpoint.lowercased()
        let amazon = [".amazonaws.com", ".amazonaws.com.cn"]
        return host == service || host.hasSuffix("." + service)
            || amazon.contains { host.hasSuffix($0) && service.hasSuffix($0) }
    }

    /// How a small request is repeated.
    private var retries: RetryPolicy {
        var policy = RetryPolicy()
        policy.triesMax = Self.pageAttempts
        policy.sleep = pause
        return policy
    }
}
