internal import MCFSCore

/// An absolute http or https URL, kept byte for byte: signed URLs must not be re-encoded.
struct RegistryLocation: Hashable, Sendable, CustomStringConvertible {
    /// `http` or `https`.
    let scheme: String
    /// `HOST[:PORT]`, lower case, without the scheme's default port.
    let authority: String
    /// From the first `/` on; `/` where the URL had none.
    let target: String

    /// nil for another scheme, no host, user information, or characters that no URL has.
    init?(_ text: String) {
        guard text.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7f }), let mark = text.firstRange(of: "://") else {
            return nil
        }
        let scheme = text[..<mark.lowerBound].lowercased()
        guard scheme == "http" || scheme == "https" else { return nil }
        let rest = text[mark.upperBound...].prefix { $0 != "#" }
        let end = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
        var authority = rest[..<end].lowercased()
        let defaultPort = scheme == "https" ? ":443" : ":80"
        if authority.hasSuffix(defaultPort) { authority.removeLast(defaultPort.count) }
        guard ImageReference.isHost(authority) else { return nil }
        self.scheme = scheme
        self.authority = authority
        let target = String(rest[end...])
        self.target = target.hasPrefix("/") ? target : "/" + target
    }

    private init(scheme: String, authority: String, target: String) {
        self.scheme = scheme
        self.authority = authority
        self.target = target
    }

    /// What a `Location` header in an answer from here means (RFC 3986 section 5.2, without dot segments). nil as above, and
    /// where it leads from https to http: what comes there anybody on the way may have altered.
    func resolving(_ reference: String) -> RegistryLocation? {
        let lowercased = reference.lowercased()
        if lowercased.hasPrefix("http://") || lowercased.hasPrefix("https://") {
            let location = RegistryLocation(reference)
            return scheme == "https" && location?.scheme == "http" ? nil : location
        }
        if reference.hasPrefix("//") { return RegistryLocation("\(scheme):\(reference)") }
        guard !reference.isEmpty, reference.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7f }) else { return nil }
        let path = target.prefix { $0 != "?" }
        let target: String
        if reference.hasPrefix("/") {
            target = reference
        } else if reference.hasPrefix("?") {
            target = path + reference
        } else {
            // A colon before any slash would be another scheme.
            guard !reference.prefix(while: { $0 != "/" && $0 != "?" }).contains(":") else { return nil }
            target = path[...(path.lastIndex(of: "/") ?? path.startIndex)] + reference
        }
        return RegistryLocation(scheme: scheme, authority: authority, target: target)
    }

    func hasSameOrigin(as other: RegistryLocation) -> Bool {
        scheme == other.scheme && authority == other.authority
    }

    /// Holds the query, which may be a signature: not for messages.
    var description: String { "\(scheme)://\(authority)\(target)" }

    /// Without the query, for messages.
    var redacted: String { "\(scheme)://\(authority)" }
}

/// `text` with everything but RFC 3986's unreserved characters escaped.
func percentEncoded(_ text: String) -> String {
    var result: [UInt8] = []
    let digits = Array("0123456789ABCDEF".utf8)
    for byte in text.utf8 {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "~"):
            result.append(byte)
        default:
            result += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
        }
    }
    return String(decoding: result, as: UTF8.self)
}
