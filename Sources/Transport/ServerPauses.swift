internal import Crypto
internal import Glibc
internal import MCFSCore
internal import Synchronization

/// Servers that asked to be left alone, and until when (`Retry-After`, `RateLimit`). Who uses a client keeps to what any other
/// of its users was told: one answer stops them all, and no request goes out before that time. Thread safe.
///
/// Limits count for who asks: a server that limits anonymous requests is asked at once by who has a credential.
final class ServerPauses: Sendable {
    /// Whom a limit concerns.
    struct Asker: Hashable, Sendable {
        let endpoint: String
        /// Of the `Authorization` header: the secret itself is not kept.
        let credential: SHA256.Digest?

        init(_ request: HTTPRequest) {
            endpoint = request.url.prefix(6).lowercased() + request.endpoint.lowercased()
            credential = request.headers.first { $0.name.lowercased() == "authorization" }.map { header in
                // AWS signs each request anew: what stays is the key's name.
                let isSignature = header.value.hasPrefix("AWS4-")
                let kept = isSignature ? header.value.prefix { $0 != "/" } : header.value[...]
                return SHA256.hash(data: Array(kept.utf8))
            }
        }
    }

    private struct Pause: Sendable {
        var until: ContinuousClock.Instant
        var error: MCFSError
    }

    /// Servers that are remembered; beyond that the ones whose time comes first are forgotten.
    private static let pausesMax = 1024

    private let pauses = Lock<[Asker: Pause]>([:])
    /// So that a request costs nothing while nobody asked for anything.
    private let count = Atomic(0)
    private let now: @Sendable () -> ContinuousClock.Instant

    init(now: @escaping @Sendable () -> ContinuousClock.Instant) { self.now = now }

    /// - Throws: `originUnavailable` (transient), with the rest of the wait, where the server is not to be asked yet.
    func check(_ request: HTTPRequest) throws(MCFSError) {
        if count.load(ordering: .relaxed) == 0 { return }
        guard let pause = pauses.withLock({ $0[Asker(request)] }) else { return }
        let rest = pause.until - now()
        guard rest > .zero else { return }
        var error = pause.error
        error.retryAfter = rest
        throw error
    }

    /// Keeps what an answer says about when to ask again.
    func note(_ response: HTTPResponse, to request: HTTPRequest) {
        guard response.status == 429 || response.status >= 500, let wait = response.retryAfter, wait > .zero else {
            return
        }
        let seconds = (Int(time(nil)) + Int(wait.components.seconds)) % 86_400
        let clock = [seconds / 3600, seconds / 60 % 60, seconds % 60].map { $0 < 10 ? "0\($0)" : "\($0)" }
        let error = MCFSError(
            .originUnavailable,
            "\(request.endpoint) answered HTTP \(response.status) and asked for no requests before \(clock.joined(separator: ":")) UTC; it is left alone until then",
            isTransient: true)
        let asker = Asker(request)
        let now = now()
        pauses.withLock { pauses in
            if pauses.count >= Self.pausesMax {
                pauses = pauses.filter { $0.value.until > now }
                if pauses.count >= Self.pausesMax, let first = pauses.min(by: { $0.value.until < $1.value.until }) {
                    pauses[first.key] = nil
                }
            }
            if pauses[asker].map({ $0.until < now + wait }) ?? true {
                pauses[asker] = Pause(until: now + wait, error: error)
            }
            count.store(pauses.count, ordering: .relaxed)
        }
    }
}
