package import Logging
package import MCFSCore
package import Transport

/// What a user types for an origin: `[SUBDIR=]REFERENCE`.
package struct Reference: Sendable {
    package enum Scheme: String, Sendable, CaseIterable {
        case oci = "oci://"
        case ociLayout = "oci-layout:"
        case s3 = "s3://"
        case hub = "hf://"
        case https = "https://"
        case http = "http://"
        case file = "file:"
    }

    /// Where in the mount it stands.
    package var subdirectory: TreePath
    package var scheme: Scheme
    /// Without `SUBDIR=`. A folder (also that of an `oci-layout:`) is absolute; one without a scheme got `file:`.
    package var text: String

    /// - Parameter directory: what relative folders are relative to; absolute.
    /// - Throws: `usage` for an unknown scheme or nothing at all, with an example of a right one.
    package init(_ text: String, relativeTo directory: String) throws(MCFSError) {
        var rest = text
        subdirectory = .root
        if let mark = Self.subdirectoryMark(in: text) {
            subdirectory = try TreePath(String(text[..<mark]))
            rest = String(text[text.index(after: mark)...])
        }
        guard !rest.isEmpty else {
            throw MCFSError(
                .usage, "'\(text)' names no reference; give one such as oci://registry.example.com/team/cache:v1")
        }
        if let scheme = Scheme.allCases.first(where: { rest.hasPrefix($0.rawValue) }) {
            self.scheme = scheme
            let value = String(rest.dropFirst(scheme.rawValue.count))
            let isLocal = scheme == .file || scheme == .ociLayout
            if isLocal, value.isEmpty {
                throw MCFSError(.usage, "'\(text)' names no folder; write \(scheme.rawValue)DIR")
            }
            self.text = isLocal ? scheme.rawValue + Self.absolute(value, directory) : rest
        } else if let colon = rest.firstRange(of: "://") {
            throw MCFSError(
                .usage,
                "unknown scheme '\(rest[..<colon.lowerBound])' in '\(rest)'; use oci://, oci-layout:, s3://, hf://, http://, https:// or a folder"
            )
        } else {
            scheme = .file
            self.text = Scheme.file.rawValue + Self.absolute(rest, directory)
        }
    }

    /// The `=` that ends a `SUBDIR=`: one before any `:` , so that queries and folders with `=` further on stay whole.
    private static func subdirectoryMark(in text: String) -> String.Index? {
        guard let mark = text.firstIndex(of: "="), mark != text.startIndex, !text.hasPrefix("/"), !text.hasPrefix(".")
        else {
            return nil
        }
        return text[..<mark].contains(":") ? nil : mark
    }

    private static func absolute(_ path: String, _ directory: String) -> String {
        if path.hasPrefix("/") { return path }
        return (directory.hasSuffix("/") ? directory : directory + "/") + path
    }

    /// A text that may hold a reference, without what stands between `://` and `@` in it and without a query that looks
    /// like a secret: for logs and status.
    package static func withoutPassword(_ text: String) -> String {
        guard let start = text.firstRange(of: "://")?.upperBound else { return text }
        for scheme in [Scheme.https, .http] {
            guard let place = text.firstRange(of: scheme.rawValue), place.upperBound == start else { continue }
            var userinfo: String?
            guard let location = HTTPLocation(String(text[place.lowerBound...]), userinfo: &userinfo) else { break }
            return text[..<place.lowerBound] + location.shown.text
        }
        let authority = text[start...].prefix { $0 != "/" }
        guard let mark = authority.lastIndex(of: "@") else { return text }
        return String(text[..<start]) + String(text[text.index(after: mark)...])
    }

    /// The origin that serves it. Asks nothing of the network.
    package func origin(environment: Environment, http: HTTPClient, logger: Logger) throws(MCFSError) -> any Origin {
        switch scheme {
        case .oci, .ociLayout: try OCIOrigin(text, environment: environment, http: http, logger: logger)
        case .s3: try S3Origin(text, environment: environment, http: http, logger: logger)
        case .hub: try HubOrigin(text, environment: environment, http: http, logger: logger)
        case .http, .https: try HTTPOrigin(text, environment: environment, http: http, logger: logger)
        case .file: try DirectoryOrigin(text, environment: environment, http: http, logger: logger)
        }
    }
}
