internal import MCFSCore

/// An `http` or `https` URL in the parts that following links and redirects needs. Paths stay as they were written;
/// there is no fragment, and user and password are kept apart from what is shown.
struct HTTPLocation: Hashable, Sendable {
    var scheme: String
    /// `host` or `host:port`, lower case, without the scheme's own port.
    var authority: String
    /// Begins with `/`; percent-encoded.
    var path: String
    var query: String?

    private init(scheme: String, authority: String, path: String, query: String?) {
        self.scheme = scheme
        self.authority = authority
        self.path = path
        self.query = query
    }

    /// nil for anything else than an absolute URL of HTTP. `userinfo` gets `user:password`, still encoded.
    init?(_ text: String, userinfo: inout String?) {
        guard let mark = text.firstRange(of: "://") else { return nil }
        let scheme = text[..<mark.lowerBound].lowercased()
        guard scheme == "http" || scheme == "https" else { return nil }
        let rest = text[mark.upperBound...].prefix { $0 != "#" }
        let end = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
        var authority = rest[..<end]
        if let at = authority.lastIndex(of: "@") {
            userinfo = String(authority[..<at])
            authority = authority[authority.index(after: at)...]
        }
        guard let authority = Self.normalized(authority.lowercased(), scheme) else { return nil }
        self.init(scheme: scheme, authority: authority, path: "/", query: nil)
        setTarget(rest[end...])
    }

    private static func normalized(_ authority: String, _ scheme: String) -> String? {
        let isHostByte: (UInt8) -> Bool = { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
            default: "-._~%!$&'()*+,;=:[]".utf8.contains(byte) || byte > 127
            }
        }
        guard !authority.isEmpty, authority.utf8.allSatisfy(isHostByte) else { return nil }
        guard let colon = authority.lastIndex(of: ":"), !authority.hasSuffix("]") else { return authority }
        let port = authority[authority.index(after: colon)...]
        let host = authority[..<colon]
        guard !host.isEmpty, port.isEmpty || UInt16(port) != nil else { return nil }
        return port.isEmpty || port == (scheme == "http" ? "80" : "443") ? String(host) : authority
    }

    private mutating func setTarget(_ text: Substring) {
        let parts = text.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let path = Self.encoded(parts.first ?? "")
        self.path = path.hasPrefix("/") ? path : "/" + path
        query = parts.count > 1 ? Self.encoded(parts[1]) : nil
    }

    /// Encodes what may not stand in a URL at all, and leaves everything else, also `%`, as it is.
    private static func encoded(_ text: some StringProtocol) -> String {
        percentEncoded(text.utf8) { $0 > 0x20 && $0 < 0x7f && !"\"<>\\^`{|}".utf8.contains($0) }
    }

    /// Encodes a name as one component of a path.
    static func component(_ name: some Sequence<UInt8>) -> String {
        percentEncoded(name) { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                true
            default: "-._~".utf8.contains(byte)
            }
        }
    }

    private static func percentEncoded(_ bytes: some Sequence<UInt8>, keeping isKept: (UInt8) -> Bool) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var result: [UInt8] = []
        for byte in bytes {
            if isKept(byte) {
                result.append(byte)
            } else {
                result += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// Replaces `%XX`; other `%` stay.
    static func decoded(_ text: some StringProtocol) -> [UInt8] {
        let bytes = Array(text.utf8)
        var result: [UInt8] = []
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.count,
                let value = UInt8(String(decoding: bytes[index + 1...index + 2], as: UTF8.self), radix: 16)
            {
                result.append(value)
                index += 3
            } else {
                result.append(bytes[index])
                index += 1
            }
        }
        return result
    }

    /// Without user and password.
    var text: String { scheme + "://" + authority + path + (query.map { "?" + $0 } ?? "") }

    func isSameServer(as other: HTTPLocation) -> Bool { scheme == other.scheme && authority == other.authority }

    var isFolder: Bool { path.hasSuffix("/") }

    func with(path: String, query: String? = nil) -> HTTPLocation {
        HTTPLocation(scheme: scheme, authority: authority, path: path, query: query)
    }

    /// Where a link or `Location` found here leads (RFC 3986 §5.2); nil for other schemes.
    func resolve(_ link: String) -> HTTPLocation? {
        let link = link.prefix { $0 != "#" }
        if let colon = link.firstIndex(of: ":"), !link[..<colon].contains(where: { "/?".contains($0) }) {
            var userinfo: String?
            return HTTPLocation(String(link), userinfo: &userinfo)?.withoutDots
        }
        if link.hasPrefix("//") {
            var userinfo: String?
            return HTTPLocation(scheme + ":" + link, userinfo: &userinfo)?.withoutDots
        }
        var result = self
        if link.isEmpty { return result }
        if link.hasPrefix("?") {
            result.query = Self.encoded(link.dropFirst())
        } else if link.hasPrefix("/") {
            result.setTarget(link)
        } else {
            let folder = path[...(path.lastIndex(of: "/") ?? path.startIndex)]
            result.setTarget(folder + link)
        }
        return result.withoutDots
    }

    /// Without `.` and `..`, also where they are written in percent-encoding.
    private var withoutDots: HTTPLocation {
        var kept: [Substring] = []
        let components = path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
        for (index, component) in components.enumerated() {
            let isLast = index == components.count - 1
            switch Self.decoded(component) {
            case Array(".".utf8): if isLast { kept.append("") }
            case Array("..".utf8):
                _ = kept.popLast()
                if isLast { kept.append("") }
            default: kept.append(component)
            }
        }
        return with(path: "/" + kept.joined(separator: "/"), query: query)
    }

    /// The path of `self` below a folder, as encoded components; nil where it is not below it.
    func components(below folder: HTTPLocation) -> [Substring]? {
        guard isSameServer(as: folder), folder.isFolder, path.hasPrefix(folder.path), path != folder.path else {
            return nil
        }
        return path.dropFirst(folder.path.count).split(separator: "/")
    }

    /// What may be shown and stored. A query that looks like a signature or a key is hidden behind a part of its digest: two
    /// URLs that differ in nothing else must not become one.
    var shown: HTTPLocation {
        let marks = ["sig", "token", "key", "credential", "password", "secret", "auth", "x-amz-", "x-goog-", "policy"]
        let names = (query ?? "").lowercased().split(separator: "&").map { $0.prefix { $0 != "=" } }
        let isSecret = names.contains { name in marks.contains { name.contains($0) } }
        guard isSecret, let query else { return self }
        return with(path: path, query: "hidden-" + Digest.sha256(of: query.utf8).hex.prefix(12))
    }
}
