package import MCFSCore
package import Transport

/// One server that a registry's content can be asked from.
package struct RegistryHost: Sendable {
    package enum Capability: String, Sendable { case pull, resolve, push }

    /// With `/v2` (or what `override_path` put in its place), without a final `/`.
    package var base: String
    package var capabilities: Set<Capability>
    package var tls: TLSOptions
    /// Sent with every request to this host and to no other. May hold secrets.
    package var headers: [(name: String, value: String)]
    /// The registry itself: gets no `ns`, and its users' credentials.
    package var isUpstream: Bool
    /// What credentials are looked up by.
    package var credentialHost: String

    /// `HOST[:PORT]`, for messages.
    package var authority: String { RegistryLocation(base)?.authority ?? credentialHost }
}

/// The servers to ask for a registry's content, in order: mirrors as containerd's `certs.d/HOST/hosts.toml` names them,
/// then the registry (containerd docs/hosts.md).
package struct RegistryHosts: Sendable {
    /// What users name the registry: `docker.io`. Sent to mirrors as `ns`.
    package let registry: String
    package let hosts: [RegistryHost]

    /// Reads the configuration of `registry`.
    /// - Throws: `configuration` for a file that cannot be used, with its name.
    package init(registry: String, environment: Environment) throws(MCFSError) {
        self.registry = registry
        for root in Self.roots(environment) {
            for name in Self.directoryNames(registry) {
                let directory = "\(root)/\(name)"
                if let text = try readConfiguration("\(directory)/hosts.toml") {
                    hosts = try HostsFile(text, path: "\(directory)/hosts.toml").hosts(for: registry)
                    return
                }
                if let tls = Self.certificates(in: directory) {
                    var upstream = Self.upstream(registry)
                    upstream.tls = tls
                    hosts = [upstream]
                    return
                }
            }
        }
        hosts = [Self.upstream(registry)]
    }

    /// Of the `certs.d` folder; the first that has something for the registry counts.
    private static func roots(_ environment: Environment) -> [String] {
        if let root = environment["MCFS_CERTS_DIR"] { return [root] }
        return ["/etc/containerd/certs.d", "\(environment.home)/.config/containerd/certs.d"]
    }

    /// `HOST_PORT_` is containerd's form for file systems that refuse colons.
    static func directoryNames(_ registry: String) -> [String] {
        var names = [registry, "_default"]
        if let colon = registry.lastIndex(of: ":"), !registry.hasSuffix("]") {
            names.insert("\(registry[..<colon])_\(registry[registry.index(after: colon)...])_", at: 0)
        }
        return names
    }

    /// The registry itself, as it is reached without configuration.
    static func upstream(_ registry: String) -> RegistryHost {
        let authority = apiHost(registry)
        return RegistryHost(
            base: "\(scheme(of: authority))://\(authority)/v2", capabilities: [.pull, .resolve, .push],
            tls: TLSOptions(),
            headers: [], isUpstream: true, credentialHost: registry)
    }

    /// Where the registry's API is.
    static func apiHost(_ registry: String) -> String { registry == "docker.io" ? "registry-1.docker.io" : registry }

    /// Registries on this machine speak plain HTTP, as every client of the field assumes.
    package static func scheme(of authority: String) -> String {
        let host: Substring
        if authority.hasPrefix("[") {
            host = authority.dropFirst().prefix { $0 != "]" }
        } else {
            host = authority.prefix { $0 != ":" }
        }
        // An address: a name that begins like one is somebody else's.
        let numbers = host.split(separator: ".", omittingEmptySubsequences: false).map { UInt8($0) }
        let isLoopback =
            host == "localhost" || host == "::1" || numbers.count == 4 && numbers[0] == 127 && !numbers.contains(nil)
        return isLoopback && !authority.hasSuffix(":443") ? "http" : "https"
    }

    /// Docker's older form: `*.crt` to trust, `*.cert` with `*.key` to be.
    private static func certificates(in directory: String) -> TLSOptions? {
        let files = directoryListing(directory)
        var tls = TLSOptions()
        tls.certificateAuthority = files.first { $0.hasSuffix(".crt") }.map { "\(directory)/\($0)" }
        if let certificate = files.first(where: { $0.hasSuffix(".cert") }) {
            let key = certificate.dropLast(5) + ".key"
            if files.contains(String(key)) {
                tls.clientCertificate = "\(directory)/\(certificate)"
                tls.clientKey = "\(directory)/\(key)"
            }
        }
        return tls == TLSOptions() ? nil : tls
    }
}
