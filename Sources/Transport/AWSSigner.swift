internal import Crypto
package import MCFSCore

/// Signs requests with AWS Signature Version 4, in the `Authorization` header.
///
/// Format: "Signature Calculations for the Authorization Header" of the Amazon S3 API reference. Pure: the time comes
/// from the caller, who knows the server's clock.
package struct AWSSigner: Sendable {
    /// An access key. Its description shows neither secret nor token, so that it may end in any message.
    package struct Key: Hashable, Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
        package var accessKeyID: String
        package var secretAccessKey: String
        /// Of temporary credentials.
        package var sessionToken: String?

        package init(accessKeyID: String, secretAccessKey: String, sessionToken: String? = nil) {
            self.accessKeyID = accessKeyID
            self.secretAccessKey = secretAccessKey
            self.sessionToken = sessionToken
        }

        package var description: String { "access key ending in \(accessKeyID.suffix(4)) (secret redacted)" }
        package var debugDescription: String { description }
        package var customMirror: Mirror { Mirror(self, children: []) }
    }

    package let key: Key
    package let region: String
    /// `s3`, `sts`.
    package let service: String

    package init(key: Key, region: String, service: String) {
        self.key = key
        self.region = region
        self.service = service
    }

    /// Hop-by-hop headers, and those that proxies or curl change.
    private static let unsigned: Set<String> = [
        "authorization", "connection", "expect", "transfer-encoding", "user-agent", "x-amzn-trace-id",
    ]

    /// What `signed` adds.
    private static let replaced: Set<String> = [
        "authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token",
    ]

    /// The same request with the headers that authorise it, and with its URL in the form that was signed. Headers that
    /// are added later (`Range`) are not covered, which S3 allows for all but `x-amz-*`.
    ///
    /// The request's own `Host` header is used where it has one, else the URL's authority.
    package func signed(_ request: HTTPRequest, at time: Timestamp) -> HTTPRequest {
        let url = SignedURL(request.url)
        let stamp = Self.stamp(time)
        var result = request
        result.url = url.description
        result.headers.removeAll { Self.replaced.contains($0.name.lowercased()) }
        result.headers.append(("x-amz-date", stamp))
        if service == "s3" { result.headers.append(("x-amz-content-sha256", Self.hash(of: request.body ?? []))) }
        if let token = key.sessionToken { result.headers.append(("x-amz-security-token", token)) }
        let scope = "\(stamp.prefix(8))/\(region)/\(service)/aws4_request"
        let (canonical, names) = canonicalRequest(result)
        let toSign = "AWS4-HMAC-SHA256\n\(stamp)\n\(scope)\n\(Self.hash(of: Array(canonical.utf8)))"
        let signature = Self.mac(signingKey(day: String(stamp.prefix(8))), toSign).hex
        result.headers.append(
            (
                "Authorization",
                "AWS4-HMAC-SHA256 Credential=\(key.accessKeyID)/\(scope), SignedHeaders=\(names), Signature=\(signature)"
            ))
        return result
    }

    /// The text that is hashed, and the names of the headers in it.
    func canonicalRequest(_ request: HTTPRequest) -> (text: String, signedHeaders: String) {
        let url = SignedURL(request.url)
        var values: [String: [String]] = [:]
        for (name, value) in request.headers where !Self.unsigned.contains(name.lowercased()) {
            values[name.lowercased(), default: []].append(Self.trimmed(value))
        }
        if values["host"] == nil { values["host"] = [url.host] }
        let names = values.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        let headers = names.map { "\($0):\(values[$0, default: []].joined(separator: ","))\n" }.joined()
        let signedHeaders = names.joined(separator: ";")
        let payload = values["x-amz-content-sha256"]?.first ?? Self.hash(of: request.body ?? [])
        let lines = [request.method, url.path, url.query, headers, signedHeaders, payload]
        return (lines.joined(separator: "\n"), signedHeaders)
    }

    func signingKey(day: String) -> [UInt8] {
        [day, region, service, "aws4_request"].reduce(Array("AWS4\(key.secretAccessKey)".utf8)) { Self.mac($0, $1) }
    }

    private static func mac(_ key: [UInt8], _ text: String) -> [UInt8] {
        Array(HMAC<SHA256>.authenticationCode(for: Array(text.utf8), using: SymmetricKey(data: key)))
    }

    private static func hash(of bytes: [UInt8]) -> String { Digest.sha256(of: bytes).hex }

    /// Without blanks around it, and with runs of blanks inside as one.
    private static func trimmed(_ value: String) -> String {
        value.split(whereSeparator: { $0 == " " || $0 == "\t" || $0 == "\r" || $0 == "\n" }).joined(separator: " ")
    }

    /// `YYYYMMDDTHHMMSSZ`.
    static func stamp(_ time: Timestamp) -> String {
        let days = time.seconds.floored(by: 86400)
        let second = time.seconds - days * 86400
        let (year, month, day) = civil(days: days)
        func digits(_ value: Int64, _ count: Int) -> String {
            let text = String(value)
            return String(repeating: "0", count: max(0, count - text.utf8.count)) + text
        }
        return digits(year, 4) + digits(month, 2) + digits(day, 2) + "T" + digits(second / 3600, 2)
            + digits(second / 60 % 60, 2) + digits(second % 60, 2) + "Z"
    }

    /// The date of a day counted from 1970-01-01, in the proleptic Gregorian calendar: years begin in March, so that
    /// the leap day is the last one of a year.
    private static func civil(days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let shifted = days + 719_468
        let era = shifted.floored(by: 146_097)
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
    }
}

extension Int64 {
    /// Quotient rounded towards negative infinity; `divisor` > 0.
    fileprivate func floored(by divisor: Int64) -> Int64 {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? quotient - 1 : quotient
    }
}

extension AWSSigner {
    /// `text` with every byte outside `A–Z a–z 0–9 - _ . ~` as `%XX`; `/` stays where `keepingSlashes`. The one encoding
    /// that S3 signs: used for what goes over the wire, it cannot differ from what is signed.
    package static func encoded(_ text: some Sequence<UInt8>, keepingSlashes: Bool = false) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var result: [UInt8] = []
        for byte in text {
            switch byte {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."),
                UInt8(ascii: "~"):
                result.append(byte)
            case UInt8(ascii: "/") where keepingSlashes: result.append(byte)
            default: result += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// Undoes `%XX`; what is no valid escape stays as it is.
    package static func decoded(_ text: some Sequence<UInt8>) -> [UInt8] {
        func value(_ digit: UInt8) -> UInt8? {
            switch digit {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
            default: nil
            }
        }
        let bytes = Array(text)
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.count, let high = value(bytes[index + 1]),
                let low = value(bytes[index + 2])
            {
                result.append(high << 4 | low)
                index += 3
            } else {
                result.append(bytes[index])
                index += 1
            }
        }
        return result
    }
}

/// A URL split into what is signed: each part in canonical form.
private struct SignedURL: CustomStringConvertible {
    var scheme: String
    /// Lower case, without the scheme's own port.
    var host: String
    /// At least `/`. S3 neither normalises nor encodes twice.
    var path: String
    /// `name=value` sorted, joined with `&`.
    var query: String

    init(_ url: String) {
        var rest = Substring(url)
        scheme = "https"
        if let mark = rest.firstRange(of: "://") {
            scheme = rest[..<mark.lowerBound].lowercased()
            rest = rest[mark.upperBound...]
        }
        rest = rest.prefix { $0 != "#" }
        let authority = rest.prefix { $0 != "/" && $0 != "?" }
        rest = rest.dropFirst(authority.count)
        let path = rest.prefix { $0 != "?" }
        let query = rest.dropFirst(path.count + 1)
        host = authority.split(separator: "@").last.map { $0.lowercased() } ?? ""
        for (name, port) in [("http", ":80"), ("https", ":443")] where scheme == name && host.hasSuffix(port) {
            host.removeLast(port.count)
        }
        self.path = path.isEmpty ? "/" : AWSSigner.encoded(AWSSigner.decoded(path.utf8), keepingSlashes: true)
        let pairs = query.split(separator: "&").map { pair in
            let name = pair.prefix { $0 != "=" }
            let value = pair.dropFirst(name.count + 1)
            return (AWSSigner.encoded(AWSSigner.decoded(name.utf8)), AWSSigner.encoded(AWSSigner.decoded(value.utf8)))
        }
        self.query =
            pairs.sorted { a, b in
                a.0 == b.0 ? a.1.utf8.lexicographicallyPrecedes(b.1.utf8) : a.0.utf8.lexicographicallyPrecedes(b.0.utf8)
            }.map { "\($0)=\($1)" }.joined(separator: "&")
    }

    var description: String { "\(scheme)://\(host)\(path)\(query.isEmpty ? "" : "?\(query)")" }
}
