internal import ControlAPI
internal import Glibc
internal import MCFSCore
internal import Yams

/// A `config.yaml`: one mapping of known keys to plain values.
enum ConfigurationFile {
    static let bytesMax = 1 << 20

    /// Empty where there is no such file.
    ///
    /// - Throws: `configuration` naming the file, and the key where it is one.
    static func read(_ path: String) throws(MCFSError) -> [Configuration.Key: Configuration.Setting] {
        let bytes: [UInt8]
        do {
            bytes = try SmallFile.read(path, bytesMax: bytesMax)
        } catch {
            if error == .noEntry || error == Errno(rawValue: ENOTDIR) { return [:] }
            throw MCFSError(.configuration, "cannot read the configuration file \(path): \(error)", cause: error)
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw MCFSError(.configuration, "the configuration file \(path) is not UTF-8")
        }
        return try parse(text, path: path)
    }

    static func parse(_ text: String, path: String) throws(MCFSError) -> [Configuration.Key: Configuration.Setting] {
        let node: Node?
        do { node = try compose(yaml: text) } catch {
            let reason = "\(error)".split(whereSeparator: \.isNewline).joined(separator: " ")
            throw MCFSError(.configuration, "the configuration file \(path) is not valid YAML: \(reason)")
        }
        guard let node, node.null == nil else { return [:] }
        guard case .mapping(let mapping) = node else {
            throw MCFSError(
                .configuration, "the configuration file \(path) must be a mapping such as 'cacheSize: 50GiB'")
        }
        var settings: [Configuration.Key: Configuration.Setting] = [:]
        for (keyNode, value) in mapping {
            guard case .scalar(let name) = keyNode, let key = Configuration.Key(rawValue: name.string) else {
                let known = Configuration.Key.allCases.map(\.rawValue).joined(separator: ", ")
                throw MCFSError(
                    .configuration,
                    "the configuration file \(path) has the unknown key '\(keyNode.string ?? "?")'; known are \(known)")
            }
            guard case .scalar(let scalar) = value else {
                throw MCFSError(.configuration, "the key '\(key.rawValue)' in \(path) needs one plain value")
            }
            settings[key] = Configuration.Setting(scalar.string, place: "'\(key.rawValue)' of \(path)")
        }
        return settings
    }
}
