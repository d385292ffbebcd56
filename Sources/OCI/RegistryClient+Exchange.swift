internal import Logging
internal import MCFSCore
internal import Synchronization
internal import Transport

/// How a request ended.
enum Exchange<Value> {
    case done(Value)
    /// Something else than what was asked for.
    case answered(HTTPResponse)
}

extension RegistryClient {
    static let redirectsMax = 10

    /// Asks the servers that have `capability`, in order, until one gives what `attempt` wants.
    ///
    /// A mirror that fails is passed over and then left alone for a while; what the registry itself says counts.
    /// - Parameters:
    ///   - path: below the repository.
    ///   - what: "cannot …", the beginning of messages.
    ///   - missing: what a 404 means.
    ///   - mayGoOn: whether another server can still be asked after a failure.
    func ask<Value>(
        _ capability: RegistryHost.Capability, _ path: String, _ what: String, missing: String, deadline: Deadline,
        mayGoOn: () -> Bool = { true },
        _ attempt: (RegistryHost, _ path: String, Deadline) throws(MCFSError) -> Exchange<Value>
    ) throws(MCFSError) -> Value {
        var candidates = hosts.filter { $0.capabilities.contains(capability) }[...]
        guard !candidates.isEmpty else {
            throw MCFSError(
                .configuration, "\(what): hosts.toml gives no server the capability '\(capability.rawValue)'")
        }
        while let host = candidates.popFirst() {
            let isLast = candidates.isEmpty
            guard isLast || !isResting(host, path) else { continue }
            let place = host.isUpstream ? "" : " from \(host.authority)"
            do throws(MCFSError) {
                let time =
                    isLast || capability == .pull && path.hasPrefix("blobs/")
                    ? deadline : deadline.earlier(Deadline(after: Self.mirrorTimeout))
                let suffix = host.isUpstream ? "" : "?ns=\(percentEncoded(image.host))"
                switch try attempt(host, "\(path)\(suffix)", time) {
                case .done(let value): return value
                case .answered(let response):
                    throw RegistryAnswer(response, body: response.body)
                        .failure("\(what)\(place)", of: image, missing: missing, notes: auth.notes(for: host))
                }
            } catch {
                if isLast { throw error }
                rest(host, error.code == .notFound ? path : "")
                logger.debug(
                    "a mirror is passed over", metadata: ["mirror": "\(host.authority)", "error": "\(error)"])
                guard mayGoOn() else { throw error }
            }
        }
        throw MCFSError(.failed, "\(what): no server was asked")
    }

    private func isResting(_ host: RegistryHost, _ path: String) -> Bool {
        resting.withLock { resting in
            let now = ContinuousClock.now
            return [host.base, "\(host.base) \(path)"].contains { key in resting[key].map { $0 > now } ?? false }
        }
    }

    private func rest(_ host: RegistryHost, _ path: String) {
        resting.withLock { resting in
            let now = ContinuousClock.now
            if resting.count > 1000 { resting = resting.filter { $0.value > now } }
            resting[path.isEmpty ? host.base : "\(host.base) \(path)"] = now + Self.mirrorRest
        }
    }

    /// One request to one server, with its credentials: asked for again, once, where it answers 401.
    ///
    /// - Parameter final: called with the URL that answered where that is on another host than the server.
    func exchange<Value>(
        _ host: RegistryHost, _ path: String, method: String, deadline: Deadline,
        final: (RegistryLocation) -> Void = { _ in },
        _ perform: (HTTPRequest) throws(MCFSError) -> Exchange<Value>
    ) throws(MCFSError) -> Exchange<Value> {
        var authorization = auth.header(for: host)
        var isRenewed = false
        while true {
            let (result, isHome) = try follow(host, path, method, authorization, final: final, perform)
            guard case .answered(let response) = result, response.status == 401, isHome, !isRenewed,
                let renewed = try auth.renew(host, after: response, refused: authorization, deadline: deadline)
            else { return result }
            authorization = renewed
            isRenewed = true
        }
    }

    /// Follows redirects. The server's headers, credentials and client certificate go to no other host.
    /// - Returns: also whether the server itself gave the answer.
    private func follow<Value>(
        _ host: RegistryHost, _ path: String, _ method: String, _ authorization: String?,
        final: (RegistryLocation) -> Void, _ perform: (HTTPRequest) throws(MCFSError) -> Exchange<Value>
    ) throws(MCFSError) -> (Exchange<Value>, isHome: Bool) {
        guard let home = RegistryLocation("\(host.base)/\(image.repository)/\(path)") else {
            throw MCFSError(.usage, "\(name) is no name that a URL can be made of")
        }
        var location = home
        var isHome = true
        for _ in 0...Self.redirectsMax {
            var request = HTTPRequest(method, location.description, tls: host.tlsElsewhere)
            if path.hasPrefix("manifests/") { request.headers.append(("Accept", MediaType.acceptedManifests)) }
            if isHome {
                request.tls = host.tls
                request.headers += host.headers
                if let authorization {
                    request.headers.removeAll { $0.name.lowercased() == "authorization" }
                    request.headers.append(("Authorization", authorization))
                }
            }
            let result = try perform(request)
            guard case .answered(let response) = result, [301, 302, 303, 307, 308].contains(response.status) else {
                if !isHome, case .done = result { final(location) }
                if !isHome, case .answered(let response) = result { throw storageFailure(response, at: location) }
                return (result, isHome)
            }
            guard let next = response["Location"].flatMap(location.resolving) else {
                throw MCFSError(
                    .originUnavailable,
                    "\(location.authority) redirects a read of \(name) to something that is no http or https URL, or from https to http"
                )
            }
            location = next
            // Once elsewhere, nothing secret is sent any more, wherever the way leads.
            isHome = isHome && next.hasSameOrigin(as: home)
        }
        throw MCFSError(
            .originUnavailable, "\(host.authority) redirects a read of \(name) more than \(Self.redirectsMax) times")
    }

    /// The error for what the storage behind a registry answered.
    func storageFailure(_ response: HTTPResponse, at location: RegistryLocation) -> MCFSError {
        RegistryAnswer(response, body: [])
            .failure("cannot read a part of \(name) from its storage \(location.authority): HTTP \(response.status)")
    }
}

extension RegistryHost {
    /// For hosts that this one redirects to.
    var tlsElsewhere: TLSOptions {
        TLSOptions(certificateAuthority: tls.certificateAuthority, skipsVerification: tls.skipsVerification)
    }
}
