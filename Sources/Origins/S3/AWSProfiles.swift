internal import Glibc
internal import MCFSCore

/// The shared files of the AWS tools: `~/.aws/config` and `~/.aws/credentials`.
///
/// Format: "Shared config and credentials files" of the AWS SDKs and Tools reference guide. Names of keys are compared
/// in lower case; a nested key is called `outer.inner`. Not `CustomStringConvertible` on purpose: holds secrets.
struct AWSProfiles: Sendable {
    typealias Section = [String: String]

    private var configured: [String: Section] = [:]
    private var credentials: [String: Section] = [:]
    let configPath: String
    let credentialsPath: String

    /// Longest file that is read, in bytes.
    private static let fileBytesMax = 4 << 20

    /// Missing files are empty ones.
    /// - Throws: `configuration` for a file that cannot be read.
    init(_ environment: Environment) throws(MCFSError) {
        configPath = Self.expanded(environment["AWS_CONFIG_FILE"] ?? "~/.aws/config", environment)
        credentialsPath = Self.expanded(environment["AWS_SHARED_CREDENTIALS_FILE"] ?? "~/.aws/credentials", environment)
        if let text = try Self.read(configPath) { configured = Self.sections(of: text) }
        if let text = try Self.read(credentialsPath) { credentials = Self.sections(of: text) }
    }

    /// What the config file says about a profile.
    func config(of profile: String) -> Section? {
        if profile == "default", let section = configured["default"] { return section }
        return configured["profile \(profile)"]
    }

    /// What the credentials file says about a profile.
    func credentials(of profile: String) -> Section? { credentials[profile] }

    func services(_ name: String) -> Section? { configured["services \(name)"] }

    static func expanded(_ path: String, _ environment: Environment) -> String {
        path.hasPrefix("~/") ? environment.home + path.dropFirst(1) : path
    }

    /// nil where there is no such file.
    /// - Throws: `configuration` where it is there and cannot be read.
    static func read(_ path: String) throws(MCFSError) -> String? {
        do throws(Errno) {
            let file = try OwnedDescriptor.open(path, O_RDONLY | O_NONBLOCK)
            let status = try file.status()
            guard status.st_mode & S_IFMT == S_IFREG else { throw Errno(rawValue: EINVAL) }
            guard status.st_size <= fileBytesMax else { throw Errno(rawValue: EFBIG) }
            var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
            let result: Result<Int, Errno> = bytes.withUnsafeMutableBytes { buffer in
                do throws(Errno) { return .success(try file.read(into: buffer, at: 0)) } catch {
                    return .failure(error)
                }
            }
            return String(decoding: bytes.prefix(try result.get()), as: UTF8.self)
        } catch {
            if error == .noEntry || error.rawValue == ENOTDIR { return nil }
            throw MCFSError(.configuration, "cannot read \(path): \(error); check the file's permissions", cause: error)
        }
    }

    /// Lines that are neither section, key nor comment are passed over, as the AWS tools do.
    static func sections(of text: String) -> [String: Section] {
        var sections: [String: Section] = [:]
        var current: String?
        var outer: String?
        for line in text.split(whereSeparator: \.isNewline) {
            let isIndented = line.first == " " || line.first == "\t"
            let content = trimmed(line)
            guard let first = content.first, first != "#", first != ";" else { continue }
            if first == "[" {
                current = content.firstIndex(of: "]").map {
                    normalised(content[content.index(after: content.startIndex)..<$0])
                }
                outer = nil
                if let current, sections[current] == nil { sections[current] = [:] }
                continue
            }
            guard let current, let mark = content.firstIndex(of: "=") else { continue }
            let key = trimmed(content[..<mark]).lowercased()
            let value = String(trimmed(content[content.index(after: mark)...]))
            if isIndented, let outer {
                sections[current]?["\(outer).\(key)"] = value
            } else {
                sections[current]?[key] = value
                outer = value.isEmpty ? key : nil
            }
        }
        return sections
    }

    /// `profile   "my name"` as `profile my name`.
    private static func normalised(_ name: Substring) -> String {
        let words = name.split(whereSeparator: { $0 == " " || $0 == "\t" })
        return words.joined(separator: " ").filter { $0 != "\"" && $0 != "'" }
    }

    private static func trimmed(_ text: Substring) -> Substring {
        var text = text.drop { $0 == " " || $0 == "\t" }
        while text.last == " " || text.last == "\t" { text.removeLast() }
        return text
    }
}
