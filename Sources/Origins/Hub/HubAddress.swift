/// An absolute http or https URL, split where it decides who may see a token.
struct HubAddress: Hashable, Sendable {
    /// `scheme://host[:port]` in lower case, without the scheme's own port.
    let origin: String
    /// Path and query; begins with `/`. The query may hold a signature.
    let target: String

    /// nil for anything else: another scheme, a user or password, bytes that no URL has. Two readers of such a text may
    /// see two different hosts in it.
    init?(_ text: String) {
        guard text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "\\") }) else { return nil }
        guard let mark = text.firstRange(of: "://") else { return nil }
        let scheme = text[..<mark.lowerBound].lowercased()
        guard scheme == "http" || scheme == "https" else { return nil }
        let rest = text[mark.upperBound...]
        let end = rest.firstIndex { "/?#".contains($0) } ?? rest.endIndex
        var authority = rest[..<end].lowercased()
        let defaultPort = scheme == "http" ? ":80" : ":443"
        if authority.hasSuffix(defaultPort) { authority.removeLast(defaultPort.count) }
        guard !authority.isEmpty, !authority.hasPrefix(":"), !authority.contains("@") else { return nil }
        let target = rest[end...].prefix { $0 != "#" }
        origin = scheme + "://" + authority
        self.target = target.hasPrefix("/") ? String(target) : "/" + target
    }

    var text: String { origin + target }
    var isEncrypted: Bool { origin.hasPrefix("https:") }
    /// Empty where there is none.
    var query: Substring {
        guard let mark = target.firstIndex(of: "?") else { return "" }
        return target[target.index(after: mark)...]
    }
    var path: Substring { target.prefix { $0 != "?" } }

    /// What a `Location` or `Link` in an answer from here stands for.
    func resolving(_ location: String) -> HubAddress? {
        if location.hasPrefix("//") { return HubAddress((isEncrypted ? "https:" : "http:") + location) }
        if location.hasPrefix("/") { return HubAddress(origin + location) }
        if let colon = location.firstIndex(of: ":"), !location[..<colon].contains(where: { "/?#".contains($0) }) {
            return HubAddress(location)
        }
        if location.hasPrefix("?") { return HubAddress(origin + path + location) }
        guard !location.isEmpty, let slash = path.lastIndex(of: "/") else { return nil }
        return HubAddress(origin + path[...slash] + location)
    }
}

/// Where a file's bytes can be had for a while without a token. Never shown: whoever has it can read the file.
struct SignedURL: Hashable, Sendable {
    let address: HubAddress
    /// Seconds since 1970; nil where the URL does not say.
    let expires: Int64?

    /// Seconds by which a URL is given up before it expires: a range asked for with it needs some time.
    static let marginSeconds: Int64 = 30

    /// - Parameter now: seconds since 1970. A new URL that seems to have expired shows that the clocks differ: it counts
    ///   as one that does not say.
    init(_ address: HubAddress, now: Int64) {
        self.address = address
        let expires = Self.expiry(in: address.query)
        self.expires = expires.flatMap { $0 - Self.marginSeconds > now ? $0 : nil }
    }

    func isUsable(now: Int64) -> Bool { expires.map { $0 - Self.marginSeconds > now } ?? true }

    /// `Expires=` (CloudFront) or `X-Amz-Date=` and `X-Amz-Expires=` (S3).
    private static func expiry(in query: Substring) -> Int64? {
        var values: [String: Substring] = [:]
        for item in query.split(separator: "&") {
            let pair = item.split(separator: "=", maxSplits: 1)
            if pair.count == 2 { values[pair[0].lowercased()] = pair[1] }
        }
        func seconds(_ text: Substring?) -> Int64? {
            guard let text, text.utf8.count <= 12, let value = Int64(text), value >= 0 else { return nil }
            return value
        }
        if let expires = seconds(values["expires"]) { return expires }
        guard let date = values["x-amz-date"].flatMap(CivilTime.seconds(of:)),
            let life = seconds(values["x-amz-expires"])
        else { return nil }
        return date + life
    }
}

/// Dates as the Hub and its content hosts write them.
enum CivilTime {
    /// Seconds since 1970 of `20260131T235959Z` or `2026-01-31T23:59:59[.fraction]Z`; nil for anything else.
    static func seconds(of text: some StringProtocol) -> Int64? {
        guard text.hasSuffix("Z"), text.utf8.count <= 40 else { return nil }
        let digits = Array(text.dropLast().prefix { $0 != "." }.utf8.filter { !"-:T".utf8.contains($0) })
        guard digits.count == 14, digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else {
            return nil
        }
        func number(_ range: Range<Int>) -> Int64 {
            digits[range].reduce(0) { $0 * 10 + Int64($1 - UInt8(ascii: "0")) }
        }
        let (year, month, day) = (number(0..<4), number(4..<6), number(6..<8))
        let (hour, minute, second) = (number(8..<10), number(10..<12), number(12..<14))
        guard year >= 1970, (1...12).contains(month), (1...31).contains(day), hour < 24, minute < 60, second <= 60
        else {
            return nil
        }
        // Years that begin in March: the leap day is then the last day of a year.
        let marchYear = month <= 2 ? year - 1 : year
        let dayOfYear = (153 * ((month + 9) % 12) + 2) / 5 + day - 1
        let days = marchYear * 365 + marchYear / 4 - marchYear / 100 + marchYear / 400 + dayOfYear - 719_468
        return days * 86_400 + hour * 3600 + minute * 60 + second
    }
}
