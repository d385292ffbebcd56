internal import MCFSCore
internal import Transport

/// Talks to one Hub: where it is, who the user is to it, which hops may see the token.
///
/// Thread safe. The token goes to the endpoint's own scheme, host and port and nowhere else.
final class HubClient: Sendable {
    /// Redirects that one request may take.
    static let hopsMax = 6
    /// Attempts at one request of the API.
    static let attemptsMax = 5
    /// Time that one exchange of the API may take.
    static let exchangeTimeout = Duration.seconds(30)
    static let redirects: Set<Int> = [301, 302, 303, 307, 308]

    let http: HTTPClient
    let token: HubToken
    /// Without a slash at its end.
    let endpoint: String
    /// The endpoint's scheme, host and port.
    let origin: String
    private let isOffline: Bool
    private let retries: RetryPolicy

    /// How requests of the API are repeated, unless a test waits for nothing.
    static var standardRetries: RetryPolicy {
        var policy = RetryPolicy()
        policy.firstDelay = .milliseconds(500)
        policy.triesMax = attemptsMax
        return policy
    }

    /// - Throws: `configuration` where `HF_ENDPOINT` is no URL.
    init(
        environment: Environment, http: HTTPClient, retries: RetryPolicy = HubClient.standardRetries
    ) throws(MCFSError) {
        var endpoint = environment["HF_ENDPOINT"] ?? "https://huggingface.co"
        while endpoint.hasSuffix("/") { endpoint.removeLast() }
        guard let address = HubAddress(endpoint), address.query.isEmpty else {
            throw MCFSError(.configuration, "HF_ENDPOINT is no URL of a Hub; set it as in https://huggingface.co")
        }
        self.endpoint = address.target == "/" ? address.origin : address.text
        self.origin = address.origin
        self.http = http
        self.retries = retries
        token = HubToken(environment)
        isOffline = environment.isHubSwitchOn("HF_HUB_OFFLINE") || environment.isHubSwitchOn("TRANSFORMERS_OFFLINE")
    }

    /// - Throws: `originUnavailable` where the user has forbidden the network.
    func checkOnline(_ operation: String) throws(MCFSError) {
        if isOffline {
            throw MCFSError(
                .originUnavailable,
                "cannot \(operation): HF_HUB_OFFLINE forbids to ask the Hub; unset it, or prefetch first")
        }
    }

    /// A request to the Hub itself. `address.origin` must be `origin`.
    func request(_ address: HubAddress, token: String?) -> HTTPRequest {
        precondition(address.origin == origin, "a token leaves its Hub")
        var headers = [(name: "Accept-Encoding", value: "identity")]
        if let token { headers.append((name: "Authorization", value: "Bearer \(token)")) }
        return HTTPRequest("GET", address.text, headers: headers)
    }

    /// Where a redirect from `address` leads.
    /// - Throws: `originUnavailable` where it leads nowhere, or from https to http.
    func target(of response: HTTPResponse, from address: HubAddress, _ operation: String) throws(MCFSError)
        -> HubAddress
    {
        guard let location = response["Location"], let next = address.resolving(location) else {
            throw MCFSError(
                .originUnavailable, "cannot \(operation): the Hub redirects to no usable address; check HF_ENDPOINT")
        }
        guard next.isEncrypted || !address.isEncrypted else {
            throw MCFSError(
                .originUnavailable, "cannot \(operation): the Hub redirects from https to http; check HF_ENDPOINT")
        }
        return next
    }

    /// Asks the API; follows redirects that stay on the Hub, repeats what may succeed later, looks up the token again
    /// where it is refused.
    ///
    /// - Parameter path: below the endpoint, encoded; or a URL of the Hub.
    /// - Returns: an answer with status 200.
    func get(
        _ path: String, _ refusal: HubRefusal, deadline: Deadline, bodyBytesMax: Int = HTTPClient.collectedBodyBytesMax
    ) throws(MCFSError) -> HTTPResponse {
        try checkOnline(refusal.operation)
        return try retries.retrying(until: deadline) { () throws(MCFSError) in
            try getOnce(path, refusal, bodyBytesMax, deadline: deadline)
        }
    }

    private func getOnce(
        _ path: String, _ refusal: HubRefusal, _ bodyBytesMax: Int, deadline: Deadline
    ) throws(MCFSError) -> HTTPResponse {
        guard let start = HubAddress(path.hasPrefix("/") ? endpoint + path : path), start.origin == origin else {
            throw refusal.failure(
                .originUnavailable, "the Hub names another host for the rest of the answer; check HF_ENDPOINT")
        }
        var address = start
        var sent = token.value
        var hasRenewed = false
        for _ in 0..<Self.hopsMax {
            let limit = deadline.earlier(Deadline(after: Self.exchangeTimeout))
            let body = BoundedSink(bytesMax: bodyBytesMax, what: "the Hub's answer")
            var response = try http.perform(request(address, token: sent), deadline: limit) { _ throws(MCFSError) in
                body
            }
            response.body = body.bytes
            if response.status == 200 { return response }
            if Self.redirects.contains(response.status) {
                let next = try target(of: response, from: address, refusal.operation)
                guard next.origin == origin else {
                    throw refusal.failure(
                        .originUnavailable, "the Hub redirects to another host; set HF_ENDPOINT to that one")
                }
                address = next
            } else if [401, 403].contains(response.status), !hasRenewed, token.renew(refused: sent) {
                hasRenewed = true
                sent = token.value
                address = start
            } else {
                throw refusal.error(response)
            }
        }
        throw refusal.failure(
            .originUnavailable, "the Hub redirects more than \(Self.hopsMax) times; check HF_ENDPOINT")
    }

    func refusal(
        _ operation: String, _ repository: HubRepository, revision: String, path: String? = nil
    ) -> HubRefusal {
        HubRefusal(
            operation: operation, repository: repository, revision: revision, path: path, endpoint: endpoint,
            hasToken: token.value != nil)
    }
}
