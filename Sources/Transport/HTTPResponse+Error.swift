package import MCFSCore

extension HTTPResponse {
    /// The error that a status stands for, for all origins alike: 408, 425, 429 and 5xx are transient.
    ///
    /// - Parameters:
    ///   - what: what could not be done, without a secret: `read s3://bucket/key`. The message begins `cannot WHAT: HTTP …`.
    ///   - remedy: what the user can do about it.
    package func error(_ what: String, remedy: String? = nil) -> MCFSError {
        var message = "cannot \(what): HTTP \(status)"
        if let text = Self.summary(of: body, type: self["Content-Type"]) { message += " (\(text))" }
        if let remedy { message += "; \(remedy)" }
        return switch status {
        case 401, 403, 407: MCFSError(.unauthorized, message)
        case 404, 410: MCFSError(.notFound, message)
        case 408, 425, 429, 500...599:
            MCFSError(.originUnavailable, message, isTransient: true, retryAfter: retryAfter)
        case 412, 416: MCFSError(.changed, message)
        default: MCFSError(.originUnavailable, message)
        }
    }

    /// How long the server asks to be left alone, at most a day: `Retry-After`, given in seconds or as a date (against the
    /// answer's own `Date`); S3's `x-amz-retry-after`, in milliseconds; of an error the `t` of
    /// `RateLimit: "resolvers";r=0;t=SECONDS` and one more, since it is rounded.
    package var retryAfter: Duration? {
        if let milliseconds = self["x-amz-retry-after"].flatMap({ Int64($0) }), milliseconds >= 0 {
            return .milliseconds(min(milliseconds, 86_400_000))
        }
        guard let text = self["Retry-After"] else { return status >= 400 ? rateLimitReset : nil }
        if let seconds = Int64(text), seconds >= 0 { return .seconds(min(seconds, 86_400)) }
        guard let date = HTTPDate.parse(text) else { return nil }
        let now = self["Date"].flatMap { HTTPDate.parse($0) } ?? HTTPDate.now
        return .seconds(min(max(0, date - now), 86_400))
    }

    private var rateLimitReset: Duration? {
        for field in (self["RateLimit"] ?? "").split(whereSeparator: { ";, ".contains($0) }) {
            guard field.hasPrefix("t="), let seconds = UInt32(field.dropFirst(2)) else { continue }
            return .seconds(min(Int64(seconds), 86_400) + 1)
        }
        return nil
    }

    /// A server's short text without anything that may be a secret; nil for a page, binary data, or nothing.
    static func summary(of body: [UInt8], type: String?) -> String? {
        guard let type = type?.lowercased(), !type.contains("html"), !type.contains("octet-stream") else { return nil }
        let text = String(decoding: body.prefix(1000), as: UTF8.self)
        guard !text.unicodeScalars.contains(where: { $0 == "\u{FFFD}" || $0.value < 9 || $0.value == 0x7f }) else {
            return nil
        }
        // Tags of XML become blanks: what stands between them is the message.
        var words = ""
        var isInTag = false
        for character in text {
            if character == "<" { isInTag = true }
            words.append(isInTag || character.isWhitespace ? " " : character)
            if character == ">" { isInTag = false }
        }
        var kept: [Substring] = []
        var hidesNext = false
        for word in words.split(separator: " ") {
            // After "Authorization:" come a scheme and then the secret.
            let isScheme = ["bearer", "basic"].contains(word.lowercased())
            let (shown, hides) = hidesNext ? ("…", isScheme) : isScheme ? (word, true) : cleaned(word)
            hidesNext = hides
            kept.append(shown)
        }
        let summary = kept.joined(separator: " ").prefix(200)
        return summary.isEmpty ? nil : String(summary)
    }

    /// - Returns: the word as it may be shown, and whether the one after it must be hidden.
    private static func cleaned(_ word: Substring) -> (Substring, Bool) {
        let lower = word.lowercased()
        let marks = ["token", "signature", "secret", "password", "credential", "authorization", "accesskey"]
        if marks.contains(where: lower.contains) {
            if lower.hasSuffix(":") || lower.hasSuffix("=") { return (word, true) }
            if lower.contains(":") || lower.contains("=") { return ("…", false) }
        }
        if lower.contains("://"), let query = word.firstIndex(of: "?") { return (word[..<query] + "?…", false) }
        // Longer than any word: an identifier at best, a key at worst.
        return word.utf8.count > 80 ? ("…", false) : (word, false)
    }
}
