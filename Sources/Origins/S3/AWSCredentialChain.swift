internal import Glibc
internal import MCFSCore
internal import Synchronization
internal import Transport

/// Finds the credential to sign with where the AWS tools look for it, keeps it, and renews it before it expires.
///
/// Thread safe. The lock guards the fields only: two threads that find nothing kept may both look, and the later one's
/// find stays; while a kept credential is valid, one thread renews it and the others go on with it.
final class AWSCredentialChain: Sendable {
    let environment: Environment
    let configuration: AWSConfiguration
    let http: HTTPClient
    private let now: @Sendable () -> Timestamp
    private let state = Lock(State())

    private struct State {
        /// nil with `isLoaded`: none was found, requests go out unsigned.
        var credentials: AWSCredentials?
        var isLoaded = false
        /// Seconds since 1970.
        var renewal: Int64?
        var isRenewing = false
    }

    /// How long before its end a credential is renewed.
    private static let renewalSeconds: Int64 = 300
    /// How soon after a failed or useless renewal the next one is tried: services hand out old credentials in an outage.
    private static let renewalPauseSeconds: Int64 = 60

    init(
        environment: Environment, configuration: AWSConfiguration, http: HTTPClient,
        now: @escaping @Sendable () -> Timestamp = S3Clock.now
    ) {
        self.environment = environment
        self.configuration = configuration
        self.http = http
        self.now = now
    }

    /// nil: there is none, requests are anonymous.
    /// - Throws: where a place that is configured does not give what it should.
    func credentials(deadline: Deadline) throws(MCFSError) -> AWSCredentials? {
        let time = now().seconds
        let kept: AWSCredentials?? = state.withLock { state in
            guard state.isLoaded else { return .none }
            guard let renewal = state.renewal, renewal <= time else { return .some(state.credentials) }
            let isValid = state.credentials?.expiration.map { $0.seconds > time } ?? true
            if state.isRenewing, isValid { return .some(state.credentials) }
            state.isRenewing = true
            return .none
        }
        if let kept { return kept }
        do throws(MCFSError) {
            let found = try load(deadline: deadline)
            state.withLock { state in
                state = State(credentials: found, isLoaded: true)
                state.renewal = found?.expiration.map {
                    max(Self.before($0.seconds, Self.renewalSeconds), time + Self.renewalPauseSeconds)
                }
            }
            return found
        } catch {
            let valid: AWSCredentials? = state.withLock { state in
                state.isRenewing = false
                guard let credentials = state.credentials, let end = credentials.expiration, end.seconds > time else {
                    return nil
                }
                state.renewal = time + Self.renewalPauseSeconds
                return credentials
            }
            if let valid { return valid }
            throw error
        }
    }

    /// Makes the next call look again, unless another thread has replaced what was refused. nil: an unsigned request was.
    func discard(_ refused: AWSCredentials?) {
        state.withLock { state in
            if state.credentials?.key == refused?.key { state = State() }
        }
    }

    private static func before(_ seconds: Int64, _ span: Int64) -> Int64 {
        let (result, overflow) = seconds.subtractingReportingOverflow(span)
        return overflow ? Int64.min : result
    }

    /// For messages, where requests went out unsigned.
    var placesLookedAt: String {
        "an anonymous request (no credential was found in AWS_ACCESS_KEY_ID, profile '\(configuration.profile)' of the AWS "
            + "config and credentials files, AWS_WEB_IDENTITY_TOKEN_FILE, AWS_CONTAINER_CREDENTIALS_FULL_URI, or the instance "
            + "metadata)"
    }

    /// One way through the places, in their order.
    private func load(deadline: Deadline) throws(MCFSError) -> AWSCredentials? {
        if let found = try fromEnvironment() { return found }
        let profiles = try AWSProfiles(environment)
        if let found = try fromRole(of: configuration.profile, in: profiles, visited: [], deadline: deadline) {
            return found
        }
        if let found = try fromWebIdentityVariables(deadline: deadline) { return found }
        if let found = try fromFiles(of: configuration.profile, in: profiles, deadline: deadline) { return found }
        if let found = try fromContainer(deadline: deadline) { return found }
        return try fromInstance(deadline: deadline)
    }
}

/// The wall clock.
enum S3Clock {
    @Sendable static func now() -> Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(seconds: Int64(time.tv_sec), nanoseconds: UInt32(time.tv_nsec))
    }
}
