internal import MCFSCore
internal import Transport

/// Where S3 is and how to address it: from the environment, then from the profile in the shared files.
struct AWSConfiguration: Sendable {
    enum AddressingStyle: String, Sendable {
        case auto, path, virtual
    }

    /// A server that is not AWS's own: scheme and authority, and a path without its last `/`. nil: AWS.
    var endpoint: String?
    /// nil where nothing says so: `us-east-1`, until the server names the bucket's region.
    var region: String?
    var addressingStyle: AddressingStyle
    var usesDualStack: Bool
    var usesFIPS: Bool
    var tls: TLSOptions
    /// Whose settings and credentials are used.
    var profile: String
    /// Whether the user asked for `profile` by name.
    var isProfileNamed: Bool

    /// - Throws: `configuration` for a file that cannot be read, a profile that does not exist, a value that cannot be used.
    init(_ environment: Environment) throws(MCFSError) {
        let profiles = try AWSProfiles(environment)
        let named = environment["AWS_PROFILE"] ?? environment["AWS_DEFAULT_PROFILE"]
        profile = named ?? "default"
        isProfileNamed = named != nil
        let section = profiles.config(of: profile) ?? [:]
        if let named, named != "default", profiles.config(of: named) == nil, profiles.credentials(of: named) == nil {
            throw MCFSError(
                .configuration,
                "there is no profile '\(named)' in \(profiles.configPath) or \(profiles.credentialsPath); check AWS_PROFILE"
            )
        }
        func flag(_ variable: String, _ key: String) -> Bool {
            (environment[variable] ?? section[key])?.lowercased() == "true"
        }
        let ignoresEndpoints = flag("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls")
        if !ignoresEndpoints {
            let configured =
                environment["AWS_ENDPOINT_URL_S3"] ?? environment["AWS_ENDPOINT_URL"]
                ?? section["services"].flatMap { profiles.services($0)?["s3.endpoint_url"] } ?? section[
                    "s3.endpoint_url"]
                ?? section["endpoint_url"]
            if let configured { endpoint = try Self.endpoint(configured) }
        }
        region = environment["AWS_REGION"] ?? environment["AWS_DEFAULT_REGION"] ?? section["region"]
        if let region, !S3Error.isRegion(region) {
            throw MCFSError(.configuration, "'\(region)' is no region; set AWS_REGION to one such as us-east-1")
        }
        let style = section["s3.addressing_style"]?.lowercased()
        guard let parsed = AddressingStyle(rawValue: style ?? "auto") else {
            throw MCFSError(
                .configuration,
                "addressing_style of profile '\(profile)' is '\(style ?? "")'; use auto, path or virtual")
        }
        addressingStyle = parsed
        usesDualStack =
            flag("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint")
            || section["s3.use_dualstack_endpoint"]?.lowercased() == "true"
        usesFIPS = flag("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint")
        tls = TLSOptions(certificateAuthority: environment["AWS_CA_BUNDLE"] ?? section["ca_bundle"])
    }

    /// Checks and normalises an endpoint URL.
    static func endpoint(_ text: String) throws(MCFSError) -> String {
        var text = text
        while text.hasSuffix("/") { text.removeLast() }
        let lower = text.lowercased()
        let scheme = lower.hasPrefix("https://") ? "https://" : "http://"
        let rest = text.dropFirst(scheme.count)
        let authority = rest.prefix { $0 != "/" }
        guard lower.hasPrefix(scheme), !authority.isEmpty,
            text.unicodeScalars.allSatisfy({ $0.value > 32 && $0.value < 127 && $0 != "?" && $0 != "#" && $0 != "@" })
        else {
            // The value is not repeated: it may hold a password.
            throw MCFSError(
                .configuration,
                "the configured S3 endpoint is no URL; set AWS_ENDPOINT_URL to one such as https://minio.example.com:9000"
            )
        }
        return scheme + authority.lowercased() + rest.dropFirst(authority.count)
    }

    /// The region to sign for while the server has not named another.
    var signingRegion: String { region ?? "us-east-1" }

    /// What tells one S3 from another: a bucket name means one bucket in it.
    var endpointIdentity: String {
        endpoint ?? (signingRegion.hasPrefix("cn-") ? "amazonaws.com.cn" : "amazonaws.com")
    }

    /// The URL of a bucket (`key` nil) or an object, percent-encoded as it is signed.
    func url(bucket: String, key: String?, region: String) -> String {
        var (scheme, authority, path) = base(region)
        if usesPathStyle(bucket: bucket, authority: authority, isTLS: scheme == "https") {
            path += "/" + bucket
        } else {
            authority = "\(bucket).\(authority)"
        }
        path += "/" + (key.map { AWSSigner.encoded($0.utf8, keepingSlashes: true) } ?? "")
        return "\(scheme)://\(authority)\(path)"
    }

    private func base(_ region: String) -> (scheme: String, authority: String, path: String) {
        guard let endpoint else {
            let service = "s3" + (usesFIPS ? "-fips" : "") + (usesDualStack ? ".dualstack" : "")
            return ("https", "\(service).\(region).amazonaws.com\(region.hasPrefix("cn-") ? ".cn" : "")", "")
        }
        let scheme = endpoint.hasPrefix("https://") ? "https" : "http"
        let rest = endpoint.dropFirst(scheme.count + 3)
        let authority = rest.prefix { $0 != "/" }
        return (scheme, String(authority), String(rest.dropFirst(authority.count)))
    }

    private func usesPathStyle(bucket: String, authority: String, isTLS: Bool) -> Bool {
        if addressingStyle == .path || Self.isAddress(authority) || !Self.isHostLabel(bucket) { return true }
        // A certificate for *.s3… covers one label only.
        if bucket.contains("."), isTLS || addressingStyle == .auto { return true }
        return addressingStyle == .auto && endpoint != nil
    }

    /// An IP address, which has no subdomains.
    private static func isAddress(_ authority: String) -> Bool {
        if authority.hasPrefix("[") { return true }
        let labels = authority.prefix { $0 != ":" }.split(separator: ".")
        return labels.count == 4 && labels.allSatisfy { UInt8($0) != nil }
    }

    /// Whether the bucket's name can stand in a host name.
    private static func isHostLabel(_ bucket: String) -> Bool {
        bucket.utf8.count <= 63
            && bucket.utf8.allSatisfy {
                ($0 >= UInt8(ascii: "a") && $0 <= UInt8(ascii: "z"))
                    || ($0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9"))
                    || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: ".")
            }
    }
}
