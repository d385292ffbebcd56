internal import CCurl
package import MCFSCore

/// One HTTP exchange to make. Redirects are never followed by the client: `RangeReader` and the origins decide which
/// headers may go to another host.
package struct HTTPRequest: Sendable {
    package var method: String
    package var url: String
    /// Sent as they are. Values may hold secrets; they are never logged.
    package var headers: [(name: String, value: String)]
    package var body: [UInt8]?
    /// Connects to this Unix socket instead of the URL's host.
    package var unixSocket: String?
    package var tls: TLSOptions

    package init(
        _ method: String = "GET", _ url: String, headers: [(name: String, value: String)] = [], body: [UInt8]? = nil,
        unixSocket: String? = nil, tls: TLSOptions = TLSOptions()
    ) {
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.unixSocket = unixSocket
        self.tls = tls
    }

    /// Host and port, or the socket: all that messages may say of the URL, whose rest can be a signature.
    package var endpoint: String {
        if let unixSocket { return "the socket \(unixSocket)" }
        let rest = url.firstRange(of: "://").map { url[$0.upperBound...] } ?? url[...]
        let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        let host = authority.lastIndex(of: "@").map { authority[authority.index(after: $0)...] } ?? authority
        return host.isEmpty ? "a URL without a host" : String(host)
    }
}

/// Whom to trust and who to be. Paths of PEM files.
package struct TLSOptions: Hashable, Sendable {
    package var certificateAuthority: String?
    package var clientCertificate: String?
    package var clientKey: String?
    package var skipsVerification: Bool

    package init(
        certificateAuthority: String? = nil, clientCertificate: String? = nil, clientKey: String? = nil,
        skipsVerification: Bool = false
    ) {
        self.certificateAuthority = certificateAuthority
        self.clientCertificate = clientCertificate
        self.clientKey = clientKey
        self.skipsVerification = skipsVerification
    }
}

package struct HTTPResponse: Sendable {
    package var status: Int
    /// In the order received; names as received, compared without case by the subscript.
    package var headers: [(name: String, value: String)]
    /// Empty where a sink took the body.
    package var body: [UInt8]

    package init(status: Int, headers: [(name: String, value: String)] = [], body: [UInt8] = []) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    /// The first value of a header.
    package subscript(name: String) -> String? {
        headers.first { $0.name.lowercased() == name.lowercased() }?.value
    }
}

/// Performs HTTP exchanges on curl's multi interface: connections are pooled over all users of the client.
///
/// Thread safe. `perform` blocks the calling thread, never longer than its deadline. HTTP/1.1 only; proxies are those
/// of the process environment. A connection must stand within 5 s, and a transfer that brings less than 1 KiB/s for
/// 15 s is ended; before it has begun to bring bytes, after half of the time that is left (15 to 60 s). On a Unix socket only the
/// deadline counts. A transfer whose sink is full is paused: it holds up no other one and does not count as stalled.
package final class HTTPClient: Sendable {
    /// Longest body that is collected in memory, in bytes: manifests, listings, error texts.
    package static let collectedBodyBytesMax = 64 << 20

    /// Longest that the first byte of an answer is waited for: a cache that first fetches the whole from its upstream sends
    /// nothing until then.
    private static let firstByteTimeoutMax = Duration.seconds(60)
    /// Each loop decrypts and copies on one core.
    private static let threadCount = 2
    /// Curl's global state is made once per process; it has no end.
    private static let isCurlReady = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK

    private let threads: HTTPThreads
    private let pauses: ServerPauses
    private let stallTimeout: Duration
    private let meter: TrafficMeter?

    /// - Parameter now: the clock that servers' requests to be left alone are measured by.
    package convenience init(now: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now }) {
        self.init(threadCount: Self.threadCount, now: now)
    }

    /// - Parameter stallTimeout: after which a transfer that stands still is ended, in whole seconds.
    init(
        threadCount: Int, stallTimeout: Duration = HTTPExchange.stallTimeout,
        now: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now }
    ) {
        self.stallTimeout = stallTimeout
        threads = HTTPThreads(count: Self.isCurlReady ? threadCount : 0)
        pauses = ServerPauses(now: now)
        meter = nil
    }

    private init(sharing client: HTTPClient, _ meter: TrafficMeter) {
        threads = client.threads
        pauses = client.pauses
        stallTimeout = client.stallTimeout
        self.meter = meter
    }

    /// The same client: its connections, threads, and what servers asked of it. What goes through it is counted.
    package func metered(by meter: TrafficMeter) -> HTTPClient { HTTPClient(sharing: self, meter) }

    /// Makes one exchange.
    ///
    /// `receive` is called once when the final header is in, on a thread of the client. It returns the sink that takes
    /// the body, or nil to have it collected in `HTTPResponse.body` (at most `collectedBodyBytesMax`); throwing ends the exchange.
    /// Neither is called after `perform` ended.
    /// - Throws: `originUnavailable` (transient) where no complete answer came: refused, reset, cut short, stalled, and,
    ///   with `retryAfter`, where the server asked to be left alone and is not asked; `timedOut` at the deadline; what
    ///   `receive` or the sink threw. A status of 4xx or 5xx is not an error here.
    package func perform(
        _ request: HTTPRequest, deadline: Deadline,
        receive: @escaping @Sendable (HTTPResponse) throws(MCFSError) -> (any ByteSink)? = { _ throws(MCFSError) in nil
        }
    ) throws(MCFSError) -> HTTPResponse {
        guard let loop = threads.leastBusy else {
            throw MCFSError(
                .failed, "cannot ask \(request.endpoint): no thread or memory for HTTP transfers", isTransient: true)
        }
        if !deadline.hasPassed {
            try pauses.check(request)
            let firstByteTimeout = max(stallTimeout, min(deadline.remaining / 2, Self.firstByteTimeoutMax))
            meter?.countRequest()
            let transfer = HTTPTransfer(
                request, firstByteTimeout: firstByteTimeout, stallTimeout: stallTimeout, meter: meter
            ) {
                [pauses] response throws(MCFSError) in
                pauses.note(response, to: request)
                return try receive(response)
            }
            loop.submit(transfer)
            if let outcome = transfer.wait(until: deadline) { return try outcome.get() }
            loop.abandon(transfer)
        }
        throw MCFSError(
            .timedOut, "\(request.endpoint) did not answer completely before the deadline", isTransient: true)
    }
}
