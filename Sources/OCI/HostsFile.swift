internal import MCFSCore
internal import TOMLKit
internal import Transport

/// A `hosts.toml` (containerd docs/hosts.md).
struct HostsFile {
    private let root: TOMLTable
    private let text: String
    private let path: String

    /// - Throws: `configuration` for text that is no TOML.
    init(_ text: String, path: String) throws(MCFSError) {
        self.text = text
        self.path = path
        do {
            root = try TOMLTable(string: text)
        } catch let error as TOMLParseError {
            throw MCFSError(
                .configuration,
                "\(path) line \(error.source.begin.line): \(error.description); correct or remove the file")
        } catch {
            throw MCFSError(.configuration, "\(path) is not valid TOML; correct or remove the file")
        }
    }

    /// The mirrors in the order of the file, then the server.
    func hosts(for registry: String) throws(MCFSError) -> [RegistryHost] {
        var hosts: [RegistryHost] = []
        if let tables = root["host"]?.table {
            for key in inFileOrder(tables.keys) {
                guard let table = tables[key]?.table else { throw invalid("host \"\(key)\" is not a table") }
                hosts.append(try host(key, table, registry: registry))
            }
        }
        if let server = try string("server", in: root) {
            hosts.append(try host(server, root, registry: registry))
        } else {
            hosts.append(try host(RegistryHosts.upstream(registry).base, root, registry: registry))
        }
        return hosts
    }

    private func host(_ url: String, _ table: TOMLTable, registry: String) throws(MCFSError) -> RegistryHost {
        let written = url.contains("://") ? url : "\(RegistryHosts.scheme(of: url))://\(url)"
        guard let location = RegistryLocation(written), !location.target.contains("?") else {
            throw invalid("'\(url)' is no http or https URL")
        }
        var path = location.target
        while path.hasSuffix("/") { path.removeLast() }
        if try boolean("override_path", in: table) != true, !path.hasSuffix("/v2") { path += "/v2" }

        var capabilities: Set<RegistryHost.Capability> = [.pull, .resolve, .push]
        if let written = try strings("capabilities", in: table) {
            capabilities = []
            for name in written {
                guard let capability = RegistryHost.Capability(rawValue: name) else {
                    throw invalid("unknown capability '\(name)'; there are pull, resolve and push")
                }
                capabilities.insert(capability)
            }
        }
        let isUpstream = location.authority == RegistryHosts.apiHost(registry)
        return RegistryHost(
            base: "\(location.scheme)://\(location.authority)\(path)", capabilities: capabilities, tls: try tls(table),
            headers: try headers(table), isUpstream: isUpstream,
            credentialHost: isUpstream ? registry : location.authority)
    }

    private func tls(_ table: TOMLTable) throws(MCFSError) -> TLSOptions {
        var tls = TLSOptions(skipsVerification: try boolean("skip_verify", in: table) ?? false)
        if let authorities = try strings("ca", in: table) {
            guard authorities.count <= 1 else { throw invalid("'ca' names several files; put them into one") }
            tls.certificateAuthority = authorities.first.map(absolute)
        }
        // A file with certificate and key, a list of such files, or a list of [certificate, key]. The first one is used.
        if let pairs = table["client"]?.array, let pair = pairs.first.flatMap({ $0.array }) {
            let files = pair.compactMap { $0.string }
            guard let certificate = files.first, !certificate.isEmpty else {
                throw invalid("'client' is not a file or a list of [certificate, key]")
            }
            tls.clientCertificate = absolute(certificate)
            tls.clientKey = files.count > 1 && !files[1].isEmpty ? absolute(files[1]) : absolute(certificate)
        } else if let file = try strings("client", in: table)?.first {
            tls.clientCertificate = absolute(file)
            tls.clientKey = absolute(file)
        }
        return tls
    }

    private func headers(_ table: TOMLTable) throws(MCFSError) -> [(name: String, value: String)] {
        guard let value = table["header"] else { return [] }
        guard let header = value.table else { throw invalid("'header' is not a table") }
        var result: [(name: String, value: String)] = []
        for name in header.keys {
            for value in try strings(name, in: header) ?? [] {
                guard !name.isEmpty, name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: ":") }),
                    value.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f })
                else { throw invalid("the header '\(name)' holds characters that HTTP does not allow") }
                result.append((name, value))
            }
        }
        return result
    }

    /// The parser sorts keys, but mirrors are asked in the order in which they are written.
    private func inFileOrder(_ keys: [String]) -> [String] {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { $0.trimmingWhitespace() }
        func line(of key: String) -> Int {
            lines.firstIndex { line in
                line.hasPrefix("[") && line.contains("host")
                    && (line.contains("\"\(key)\"") || line.contains("'\(key)'") || line.contains(".\(key)]"))
            } ?? lines.firstIndex { !$0.hasPrefix("#") && $0.contains(key) } ?? lines.count
        }
        return keys.map { (line(of: $0), $0) }.sorted { ($0.0, $0.1) < ($1.0, $1.1) }.map(\.1)
    }

    private func absolute(_ file: String) -> String {
        file.hasPrefix("/") ? file : "\(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])/\(file)"
    }

    private func string(_ key: String, in table: TOMLTable) throws(MCFSError) -> String? {
        guard let value = table[key] else { return nil }
        guard let text = value.string else { throw invalid("'\(key)' is not a string") }
        return text
    }

    private func boolean(_ key: String, in table: TOMLTable) throws(MCFSError) -> Bool? {
        guard let value = table[key] else { return nil }
        guard let flag = value.bool else { throw invalid("'\(key)' is not true or false") }
        return flag
    }

    /// A string or a list of strings.
    private func strings(_ key: String, in table: TOMLTable) throws(MCFSError) -> [String]? {
        guard let value = table[key] else { return nil }
        if let text = value.string { return [text] }
        guard let array = value.array else { throw invalid("'\(key)' is not a string or a list of strings") }
        var result: [String] = []
        for element in array {
            guard let text = element.string else { throw invalid("'\(key)' is not a list of strings") }
            result.append(text)
        }
        return result
    }

    private func invalid(_ why: String) -> MCFSError { MCFSError(.configuration, "\(path): \(why)") }
}
