internal import Foundation
package import MCFSCore

/// What proves to a registry who asks.
package enum RegistryCredential: Hashable, Sendable {
    case basic(user: String, password: String)
    /// An OAuth2 refresh token, exchanged at the registry's token server.
    case refreshToken(String)
    /// A ready bearer token.
    case bearer(String)
}

/// Credentials where Docker and Podman keep them. Every lookup reads the files again, so that a login takes effect at once.
package struct DockerCredentials: Sendable {
    /// A lookup's result.
    package struct Answer: Hashable, Sendable {
        package var credential: RegistryCredential?
        /// Why a source that was configured gave nothing, for the message of a refusal.
        package var notes: [String] = []
    }

    private let environment: Environment

    package init(environment: Environment) { self.environment = environment }

    /// - Parameters:
    ///   - host: the registry as users name it.
    ///   - repository: for Podman's entries that are for a part of a registry.
    /// - Throws: `configuration` for a file that cannot be used, with its name.
    package func answer(for host: String, repository: String, deadline: Deadline) throws(MCFSError) -> Answer {
        var answer = Answer()
        for path in paths {
            guard let text = try readConfiguration(path) else { continue }
            let file = try ConfigFile(text, path: path)
            if let suffix = file.helper(for: host) {
                do throws(MCFSError) {
                    let helper = CredentialHelper(suffix: suffix, environment: environment)
                    if let found = try helper.get(Self.serverAddress(host), deadline: deadline) {
                        answer.credential = found
                        return answer
                    }
                } catch {
                    answer.notes.append("\(path): \(error.message)")
                }
            }
            if let found = try file.credential(for: host, repository: repository) {
                answer.credential = found
                return answer
            }
        }
        return answer
    }

    private var paths: [String] {
        var paths = [(environment["DOCKER_CONFIG"] ?? "\(environment.home)/.docker") + "/config.json"]
        if let path = environment["REGISTRY_AUTH_FILE"] { paths.append(path) }
        if let path = environment["XDG_RUNTIME_DIR"] { paths.append("\(path)/containers/auth.json") }
        paths.append((environment["XDG_CONFIG_HOME"] ?? "\(environment.home)/.config") + "/containers/auth.json")
        return paths
    }

    /// What helpers know a registry by. Docker Hub's is a URL, for reasons of age.
    static func serverAddress(_ host: String) -> String {
        host == "docker.io" ? "https://index.docker.io/v1/" : host
    }

    /// Names of the registry in `auths` and `credHelpers`.
    static func aliases(_ host: String) -> [String] {
        host == "docker.io" ? ["docker.io", "index.docker.io", "registry-1.docker.io"] : [host]
    }
}

/// `config.json` and `auth.json` (Docker's and Podman's documentation).
private struct ConfigFile {
    struct Entry: Decodable {
        var auth: String?
        var username: String?
        var password: String?
        var identitytoken: String?
        var registrytoken: String?
    }

    private struct Content: Decodable {
        var auths: [String: Entry?]?
        var credHelpers: [String: String]?
        var credsStore: String?
    }

    private let content: Content
    private let path: String

    init(_ text: String, path: String) throws(MCFSError) {
        self.path = path
        // Podman leaves an empty file behind on logout.
        let bytes = text.trimmingWhitespace().isEmpty ? Array("{}".utf8) : Array(text.utf8)
        do {
            content = try decodeJSON(Content.self, bytes, what: path)
        } catch {
            throw MCFSError(.configuration, "\(error.message); correct the file or log in again")
        }
    }

    /// The suffix of the program to ask.
    func helper(for host: String) -> String? {
        for (key, suffix) in content.credHelpers ?? [:]
        where !suffix.isEmpty && DockerCredentials.aliases(host).contains(Self.normalized(key)) {
            return suffix
        }
        return content.credsStore.flatMap { $0.isEmpty ? nil : $0 }
    }

    func credential(for host: String, repository: String) throws(MCFSError) -> RegistryCredential? {
        var entries: [String: Entry] = [:]
        for (key, entry) in content.auths ?? [:] { entries[Self.normalized(key)] = entry }
        for name in Self.candidates(host, repository) {
            if let entry = entries[name], let credential = try credential(entry, key: name) { return credential }
        }
        return nil
    }

    /// The most specific name first.
    static func candidates(_ host: String, _ repository: String) -> [String] {
        var result: [String] = []
        for alias in DockerCredentials.aliases(host) {
            var parts = repository.split(separator: "/")
            while !parts.isEmpty {
                result.append("\(alias)/\(parts.joined(separator: "/"))")
                parts.removeLast()
            }
        }
        return result + DockerCredentials.aliases(host)
    }

    /// Without scheme, and for URLs without path: `https://host/v1/` and `host` are the same entry.
    static func normalized(_ key: String) -> String {
        var name = Substring(key)
        if let mark = name.firstRange(of: "://") { name = name[mark.upperBound...].prefix { $0 != "/" } }
        while name.hasSuffix("/") { name.removeLast() }
        if name.hasSuffix("/v1") || name.hasSuffix("/v2") { name.removeLast(3) }
        return name.lowercased()
    }

    private func credential(_ entry: Entry, key: String) throws(MCFSError) -> RegistryCredential? {
        if let token = entry.registrytoken, !token.isEmpty { return .bearer(token) }
        if let token = entry.identitytoken, !token.isEmpty { return .refreshToken(token) }
        if let auth = entry.auth, !auth.isEmpty {
            guard let data = Data(base64Encoded: auth) else {
                throw MCFSError(.configuration, "\(path): 'auth' of \(key) is not base64; log in again")
            }
            // Some writers pad the password with NUL bytes.
            let text = String(decoding: data, as: UTF8.self).trimmingCharacters(in: CharacterSet(charactersIn: "\0"))
            guard let colon = text.firstIndex(of: ":") else {
                throw MCFSError(.configuration, "\(path): 'auth' of \(key) is not user:password; log in again")
            }
            return .basic(user: String(text[..<colon]), password: String(text[text.index(after: colon)...]))
        }
        if let user = entry.username, !user.isEmpty, let password = entry.password {
            return .basic(user: user, password: password)
        }
        return nil
    }
}
