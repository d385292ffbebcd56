internal import Foundation
internal import MCFSCore
internal import Synchronization
internal import Transport

/// The `Authorization` headers for one repository (distribution docs/content/spec/auth): anonymous, basic or bearer.
///
/// Thread safe. Headers are kept per server; a refused one is replaced by asking credentials and token servers again.
final class RegistryAuth: Sendable {
    private struct Header {
        var value: String
        var expiry: ContinuousClock.Instant?
    }

    private struct State {
        /// By the server's base URL.
        var headers: [String: Header] = [:]
        /// Why credentials that were configured could not be used.
        var notes: [String: [String]] = [:]
    }

    private let http: HTTPClient
    private let credentials: DockerCredentials
    private let repository: String
    private let state = Lock(State())

    /// Longest answer of a token server that is read, in bytes.
    private static let tokenBytesMax = 128 << 10

    init(http: HTTPClient, credentials: DockerCredentials, repository: String) {
        self.http = http
        self.credentials = credentials
        self.repository = repository
    }

    /// What worked last for `host`; nil before the first refusal and where it has expired.
    func header(for host: RegistryHost) -> String? {
        state.withLock { state in
            guard let header = state.headers[host.base] else { return nil }
            if let expiry = header.expiry, expiry <= ContinuousClock.now { return nil }
            return header.value
        }
    }

    /// Why credentials that were configured for `host` could not be used.
    func notes(for host: RegistryHost) -> [String] { state.withLock { $0.notes[host.base] ?? [] } }

    /// A header that may be accepted after `response`, a 401, refused `refused`.
    /// - Returns: nil where there is nothing else to try.
    func renew(
        _ host: RegistryHost, after response: HTTPResponse, refused: String?, deadline: Deadline
    ) throws(MCFSError) -> String? {
        // Another thread may have renewed it meanwhile.
        if let current = header(for: host), current != refused { return current }
        state.withLock { _ = $0.headers.removeValue(forKey: host.base) }

        let challenges = AuthChallenge.parse(
            response.headers.filter { $0.name.lowercased() == "www-authenticate" }.map(\.value))
        let answer = try credentials.answer(for: host.credentialHost, repository: repository, deadline: deadline)
        state.withLock { $0.notes[host.base] = answer.notes }

        let header: Header
        if let bearer = challenges.first(where: { $0.scheme == "bearer" && $0.parameters["realm"] != nil }) {
            header = try self.header(answering: bearer, with: answer.credential, host: host, deadline: deadline)
        } else if challenges.contains(where: { $0.scheme == "basic" }),
            case .basic(let user, let password) = answer.credential
        {
            header = Header(value: Self.basic(user, password))
        } else {
            return nil
        }
        guard header.value != refused else { return nil }
        state.withLock { $0.headers[host.base] = header }
        return header.value
    }

    static func basic(_ user: String, _ password: String) -> String {
        "Basic " + Data("\(user):\(password)".utf8).base64EncodedString()
    }

    private func header(
        answering challenge: AuthChallenge, with credential: RegistryCredential?, host: RegistryHost, deadline: Deadline
    ) throws(MCFSError) -> Header {
        if case .bearer(let token) = credential { return Header(value: "Bearer \(token)") }
        let realm = try self.realm(of: challenge, host: host)
        let scope = challenge.parameters["scope"] ?? "repository:\(repository):pull"
        let request = Self.tokenRequest(
            realm: realm, service: challenge.parameters["service"], scope: scope, credential: credential)
        let token = try fetchToken(request, from: realm, host: host, deadline: deadline)
        return Header(value: "Bearer \(token.value)", expiry: ContinuousClock.now + token.lifetime)
    }

    /// A token server gets passwords, so it must be as well protected as the registry is.
    private func realm(of challenge: AuthChallenge, host: RegistryHost) throws(MCFSError) -> RegistryLocation {
        guard let realm = RegistryLocation(challenge.parameters["realm"] ?? "") else {
            throw MCFSError(.originUnavailable, "\(host.authority) names a token server that is no http or https URL")
        }
        guard realm.scheme == "https" || host.base.hasPrefix("http://") else {
            throw MCFSError(
                .originUnavailable,
                "\(host.authority) names a token server without TLS (\(realm.redacted)), which mcfs does not trust")
        }
        return realm
    }

    static func tokenRequest(
        realm: RegistryLocation, service: String?, scope: String, credential: RegistryCredential?
    ) -> HTTPRequest {
        // Several scopes in one challenge are separated by blanks; each is a parameter of its own in a query.
        let scopes = scope.split(separator: " ").map(String.init)
        let serviceQuery = service.map { ["service=\(percentEncoded($0))"] } ?? []
        if case .refreshToken(let token) = credential {
            let form =
                ["grant_type=refresh_token", "refresh_token=\(percentEncoded(token))", "client_id=mcfs"] + serviceQuery
                + ["scope=\(percentEncoded(scope))"]
            return HTTPRequest(
                "POST", realm.description,
                headers: [("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "application/json")],
                body: Array(form.joined(separator: "&").utf8))
        }
        let query = (serviceQuery + scopes.map { "scope=\(percentEncoded($0))" }).joined(separator: "&")
        var headers = [(name: "Accept", value: "application/json")]
        if case .basic(let user, let password) = credential {
            headers.append((name: "Authorization", value: basic(user, password)))
        }
        return HTTPRequest(
            "GET", realm.description + (realm.target.contains("?") ? "&" : "?") + query, headers: headers)
    }

    private func fetchToken(
        _ request: HTTPRequest, from realm: RegistryLocation, host: RegistryHost, deadline: Deadline
    ) throws(MCFSError) -> (value: String, lifetime: Duration) {
        var request = request
        // The registry's own authority often signs its token server's certificate as well.
        request.tls = TLSOptions(
            certificateAuthority: host.tls.certificateAuthority, skipsVerification: host.tls.skipsVerification)
        let sink = BoundedSink(bytesMax: Self.tokenBytesMax, what: "the answer of the token server \(realm.redacted)")
        let response = try http.perform(request, deadline: deadline) { _ throws(MCFSError) in sink }
        guard response.status == 200 else { throw refusal(response, realm: realm, host: host) }
        return try Self.token(in: sink.bytes, from: realm)
    }

    private func refusal(_ response: HTTPResponse, realm: RegistryLocation, host: RegistryHost) -> MCFSError {
        let what =
            "cannot get a token for \(host.credentialHost)/\(repository) from \(realm.redacted): HTTP \(response.status)"
        switch response.status {
        case 400, 401, 403, 404:
            return MCFSError(
                .unauthorized,
                "\(what); check the credentials for this registry ('docker login \(host.credentialHost)', ~/.docker/config.json)"
            )
        default:
            return RegistryAnswer(response, body: []).failure(what)
        }
    }

    private struct TokenAnswer: Decodable {
        var token: String?
        var access_token: String?
        var expires_in: Double?

        private enum Key: String, CodingKey { case token, access_token, expires_in }

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: Key.self)
            token = try container.decodeIfPresent(String.self, forKey: .token)
            access_token = try container.decodeIfPresent(String.self, forKey: .access_token)
            expires_in = try? container.decodeIfPresent(Double.self, forKey: .expires_in)
        }
    }

    static func token(
        in bytes: [UInt8], from realm: RegistryLocation
    ) throws(MCFSError) -> (value: String, lifetime: Duration) {
        let answer: TokenAnswer
        do {
            answer = try decodeJSON(TokenAnswer.self, bytes, what: "the answer of the token server \(realm.redacted)")
        } catch {
            throw MCFSError(.originUnavailable, error.message)
        }
        let tokens = [answer.token, answer.access_token].compactMap { $0 }
        guard let value = tokens.first(where: { !$0.isEmpty }), value.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
            throw MCFSError(.originUnavailable, "the token server \(realm.redacted) answered without a token")
        }
        // Servers must give at least 60 s, the default where they do not say; renewed when a fifth is left.
        let seconds = min(max(answer.expires_in ?? 60, 60), 86400)
        return (value, .seconds(seconds * 0.8))
    }
}
