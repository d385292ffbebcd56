internal import Dispatch
internal import MCFSCore
internal import Synchronization
internal import Transport

/// One file at one commit.
struct HubFile: Sendable {
    var repository: HubRepository
    var commit: String
    /// In the repository.
    var path: String
    /// Bytes.
    var size: UInt64
    /// What the Hub sends as `X-Linked-Etag` or `ETag`: SHA-256 of a large file, git's id of another.
    var etag: String
    /// A large file's bytes are on another host, reached through a signed URL.
    var isLarge: Bool

    var description: String { "\(repository.description)@\(commit)/\(path)" }
}

/// The bytes of one file.
///
/// The Hub counts requests for `resolve` URLs, so a large file is resolved once: the signed URL that comes of it serves all
/// ranges, in parallel, until it expires or is refused. One reader resolves while the others wait for it. A small file
/// is answered by the Hub itself, each range through its `resolve` URL.
final class HubFileSource: ByteSource {
    private let file: HubFile
    private let client: HubClient
    private let reader: RangeReader
    private let now: @Sendable () -> Int64
    private let state: Lock<State>

    private struct State {
        var route: Route
        /// Set while a reader resolves.
        var resolving: HubResolving?
    }

    private enum Route {
        /// The next reader resolves.
        case unknown
        /// The Hub answers with the bytes.
        case hub
        case signed(SignedURL)
    }

    private enum Step {
        case readSigned(SignedURL)
        /// nil: nobody waits for it.
        case askHub(HubResolving?)
        case wait(HubResolving)
    }

    private enum Answer {
        case delivered
        case elsewhere(SignedURL)
    }

    /// - Parameter now: seconds since 1970, against which a signed URL's expiry is held.
    init(_ file: HubFile, client: HubClient, now: @escaping @Sendable () -> Int64) {
        self.file = file
        self.client = client
        self.now = now
        reader = RangeReader(client: client.http)
        state = Lock(State(route: file.isLarge ? .unknown : .hub))
    }

    var name: String { file.description }
    var origin: String { HTTPRequest("GET", client.origin).endpoint }
    var hasRandomAccess: Bool { true }

    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        if range.isEmpty { return }
        try client.checkOnline("read \(name)")
        var hasRenewed = false
        while true {
            switch nextStep() {
            case .readSigned(let url):
                guard let refused = try readSigned(url, range, deadline, sink) else { return }
                forget(url)
                if hasRenewed { throw elsewhereFailure(refused) }
                hasRenewed = true
            case .wait(let resolving):
                try resolving.wait(deadline, name)
            case .askHub(let resolving):
                if case .delivered = try askHub(resolving, range, deadline, sink) { return }
            }
        }
    }

    // MARK: State

    private func nextStep() -> Step {
        state.withLock { state in
            switch state.route {
            case .signed(let url) where url.isUsable(now: now()): return .readSigned(url)
            case .hub: return .askHub(nil)
            case .signed, .unknown:
                if let resolving = state.resolving { return .wait(resolving) }
                let resolving = HubResolving()
                state.route = .unknown
                state.resolving = resolving
                return .askHub(resolving)
            }
        }
    }

    private func forget(_ url: SignedURL) {
        state.withLock { state in
            if case .signed(url) = state.route { state.route = .unknown }
        }
    }

    private func askHub(
        _ resolving: HubResolving?, _ range: ByteRange, _ deadline: Deadline, _ sink: any ByteSink
    ) throws(MCFSError) -> Answer {
        var refusal: MCFSError?
        // Without a refusal the waiting readers look at the route again and, where it is unknown, try for themselves.
        defer {
            if let resolving {
                state.withLock { $0.resolving = nil }
                resolving.finish(refusal)
            }
        }
        let answer = try resolve(range, deadline, sink) { refusal = $0 }
        state.withLock { state in
            switch answer {
            case .delivered: if resolving != nil { state.route = .hub }
            case .elsewhere(let url): state.route = .signed(url)
            }
        }
        return answer
    }

    // MARK: Exchanges

    /// Asks the Hub for the range: it delivers it or says where it is. `refused` gets the error of an answer that any
    /// other reader would get too.
    private func resolve(
        _ range: ByteRange, _ deadline: Deadline, _ sink: any ByteSink, refused: (MCFSError) -> Void
    ) throws(MCFSError) -> Answer {
        let operation = "read \(name)"
        let encodedPath = HubReference.percentEncoded(file.path, keepsSlashes: true)
        guard let start = HubAddress("\(client.endpoint)\(file.repository.path)/resolve/\(file.commit)/\(encodedPath)")
        else {
            throw MCFSError(.corrupt, "cannot \(operation): its path makes no URL")
        }
        var address = start
        var token = client.token.value
        var hasRenewed = false
        for _ in 0..<HubClient.hopsMax {
            let outcome = try reader.read(
                range, client.request(address, token: token), expecting: .init(size: file.size, isVerified: true),
                deadline: deadline, into: sink)
            guard case .answered(let response) = outcome else { return .delivered }
            if HubClient.redirects.contains(response.status) {
                try check(response)
                let next = try client.target(of: response, from: address, operation)
                if next.origin != client.origin { return .elsewhere(SignedURL(next, now: now())) }
                address = next
            } else if [401, 403].contains(response.status), !hasRenewed, client.token.renew(refused: token) {
                hasRenewed = true
                token = client.token.value
                address = start
            } else {
                let error = client.refusal(operation, file.repository, revision: file.commit, path: file.path).error(
                    response)
                refused(error)
                throw error
            }
        }
        throw MCFSError(
            .originUnavailable,
            "cannot \(operation): the Hub redirects more than \(HubClient.hopsMax) times; check HF_ENDPOINT")
    }

    /// A redirect tells which file it is about.
    private func check(_ response: HTTPResponse) throws(MCFSError) {
        func changed(_ what: String) -> MCFSError {
            MCFSError(.changed, "cannot read \(name): the Hub answers with another \(what); mount the reference again")
        }
        if let commit = response["X-Repo-Commit"], commit != file.commit { throw changed("commit") }
        if let size = response["X-Linked-Size"], OutsideNumber.byteCount(size) != file.size { throw changed("size") }
        if let etag = response["X-Linked-Etag"] {
            let plain = (etag.hasPrefix("W/") ? etag.dropFirst(2) : Substring(etag)).filter { $0 != "\"" }
            if plain != file.etag { throw changed("content") }
        }
    }

    /// Reads from the content host, without the token.
    /// - Returns: the status of an answer that says that the URL is no longer good; nil when all bytes were delivered.
    private func readSigned(
        _ url: SignedURL, _ range: ByteRange, _ deadline: Deadline, _ sink: any ByteSink
    ) throws(MCFSError) -> Int? {
        var address = url.address
        for _ in 0..<HubClient.hopsMax {
            let request = HTTPRequest("GET", address.text, headers: [(name: "Accept-Encoding", value: "identity")])
            let outcome = try reader.read(
                range, request, expecting: .init(size: file.size, isVerified: true), deadline: deadline, into: sink)
            guard case .answered(let response) = outcome else { return nil }
            if [400, 401, 403, 404].contains(response.status) { return response.status }
            guard HubClient.redirects.contains(response.status) else {
                throw elsewhereFailure(response.status, response)
            }
            address = try client.target(of: response, from: address, "read \(name)")
        }
        throw MCFSError(
            .originUnavailable,
            "cannot read \(name): the host of the Hub's large files redirects more than \(HubClient.hopsMax) times; try again later"
        )
    }

    private func elsewhereFailure(_ status: Int, _ response: HTTPResponse? = nil) -> MCFSError {
        let who = "cannot read \(name): the host of the Hub's large files"
        switch status {
        case 400, 401, 403, 404:
            // The address is new: asking again at once would only use up the Hub's limit of requests.
            return MCFSError(
                .originUnavailable,
                "\(who) answers HTTP \(status) to a new address; check that a proxy or firewall lets it through")
        case 416:
            return MCFSError(.changed, "\(who) has a shorter one than was listed; mount the reference again")
        default:
            return MCFSError(
                .originUnavailable, "\(who) answers HTTP \(status); try again later", isTransient: true,
                retryAfter: response.flatMap(\.retryAfter))
        }
    }
}

/// One reader's resolving of a file, which others wait for.
final class HubResolving: Sendable {
    private struct State {
        var isDone = false
        var refusal: MCFSError?
        var waiting: [DispatchSemaphore] = []
    }
    private let state = Lock(State())

    func finish(_ refusal: MCFSError?) {
        let waiting = state.withLock { state in
            state.isDone = true
            state.refusal = refusal
            defer { state.waiting = [] }
            return state.waiting
        }
        for semaphore in waiting { semaphore.signal() }
    }

    /// - Throws: what the Hub answered to the one who asked; `timedOut` at the deadline.
    func wait(_ deadline: Deadline, _ name: String) throws(MCFSError) {
        let semaphore = DispatchSemaphore(value: 0)
        let isDone = state.withLock { state in
            if !state.isDone { state.waiting.append(semaphore) }
            return state.isDone
        }
        if !isDone {
            let milliseconds = Int(clamping: min(deadline.remaining.milliseconds, 86_400_000))
            guard semaphore.wait(timeout: .now() + .milliseconds(milliseconds)) == .success else {
                throw MCFSError(
                    .timedOut, "cannot read \(name): the Hub did not say in time where it is", isTransient: true)
            }
        }
        if let refusal = state.withLock({ $0.refusal }) { throw refusal }
    }
}
