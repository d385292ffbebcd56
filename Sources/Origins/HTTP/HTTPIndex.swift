internal import Foundation
internal import MCFSCore
internal import Transport

/// The links of a folder's index: a page, as nginx, Apache and Python's http.server make them, or nginx's JSON.
enum HTTPIndex {
    /// Whether an answer can be an index, by its head.
    static func isCandidate(_ answer: HTTPResponse) -> Bool {
        kind(answer) != nil
    }

    /// Whether an answer is a web page.
    static func isPage(_ answer: HTTPResponse) -> Bool {
        let type = answer["Content-Type"]?.lowercased() ?? ""
        return type.hasPrefix("text/html") || type.hasPrefix("application/xhtml+xml")
    }

    /// Whether a page has something to fill in, as one to log in has.
    static func hasForm(_ answer: HTTPResponse) -> Bool {
        guard isPage(answer) else { return false }
        var scanner = Scanner(answer.body)
        while scanner.skip(past: "<") {
            if ["form", "input"].contains(scanner.name()) { return true }
        }
        return false
    }

    private enum Kind { case page, json }

    private static func kind(_ answer: HTTPResponse) -> Kind? {
        guard answer.status == 200, let type = answer["Content-Type"]?.lowercased() else { return nil }
        if isPage(answer) { return .page }
        return type.hasPrefix("application/json") ? .json : nil
    }

    /// Most links of one index, those that lead elsewhere among them.
    static let linksMax = 2 * HTTPCrawl.entriesMax

    /// Where its links lead that stay below `folder`; nil where it is no index.
    ///
    /// - Throws: `unsupported` where there are more than `linksMax`; `timedOut`.
    static func links(
        of answer: HTTPResponse, at folder: HTTPLocation, deadline: Deadline
    ) throws(MCFSError) -> [HTTPLocation]? {
        var result: [HTTPLocation] = []
        var seen: Set<HTTPLocation> = []
        var count = 0
        func take(_ link: String) throws(MCFSError) {
            count += 1
            guard count <= linksMax else {
                throw MCFSError(
                    .unsupported, "\(folder.shown.text) has more than \(linksMax) links; mount a part of it")
            }
            guard let location = folder.resolve(link), location.query == nil, location.components(below: folder) != nil,
                seen.insert(location).inserted
            else { return }
            result.append(location)
        }
        switch kind(answer) {
        case .page:
            var tags = 0
            try forEachHref(of: answer.body) { (link) throws(MCFSError) in
                tags += 1
                if tags & 1023 == 0, deadline.hasPassed {
                    throw MCFSError(.timedOut, "\(folder.shown.text) could not be read in time", isTransient: true)
                }
                if let link { try take(link) }
            }
        case .json:
            guard let entries = jsonLinks(of: answer.body) else { return nil }
            for link in entries { try take(link) }
        case nil: return nil
        }
        return result
    }

    /// nginx's `autoindex_format json`.
    private struct Entry: Decodable {
        var name: String
        var type: String
    }

    private static func jsonLinks(of body: [UInt8]) -> [String]? {
        guard let entries = try? JSONDecoder().decode([Entry].self, from: Data(body)) else { return nil }
        return entries.compactMap { entry in
            guard !entry.name.contains("/"), entry.type == "file" || entry.type == "directory" else { return nil }
            // "./" keeps a name with a colon from being taken for a scheme.
            return "./" + HTTPLocation.component(entry.name.utf8) + (entry.type == "directory" ? "/" : "")
        }
    }

    /// Calls `body` with the value of each `href` in the `<a>` tags of a page, and before that with nil for every tag.
    private static func forEachHref<Failure: Error>(
        of page: [UInt8], _ body: (String?) throws(Failure) -> Void
    ) throws(Failure) {
        var scanner = Scanner(page)
        while scanner.skip(past: "<") {
            if scanner.take("!--") {
                _ = scanner.skip(past: "-->")
                continue
            }
            try body(nil)
            guard scanner.name() == "a" else { continue }
            while let (name, value) = scanner.attribute() {
                if name == "href", let value { try body(unescaped(value)) }
            }
        }
    }

    /// Reads the few forms that tags have; anything else is passed over.
    private struct Scanner {
        private let bytes: [UInt8]
        private var position = 0

        init(_ bytes: [UInt8]) { self.bytes = bytes }

        private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

        mutating func take(_ text: StaticString) -> Bool {
            let text = Array("\(text)".utf8)
            guard bytes[position...].starts(with: text) else { return false }
            position += text.count
            return true
        }

        mutating func skip(past text: StaticString) -> Bool {
            let text = Array("\(text)".utf8)
            while position < bytes.count {
                if bytes[position] == text[0], bytes[position...].starts(with: text) {
                    position += text.count
                    return true
                }
                position += 1
            }
            return false
        }

        /// Letters, digits and `-`, in lower case.
        mutating func name() -> String {
            take { byte in
                switch byte | 0x20 {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"):
                    true
                default: false
                }
            }.lowercased()
        }

        private mutating func take(while condition: (UInt8) -> Bool) -> String {
            let start = position
            while let byte = next, condition(byte) { position += 1 }
            return String(decoding: bytes[start..<position], as: UTF8.self)
        }

        private mutating func skipBlanks() { _ = take { $0 == 32 || (9...13).contains($0) } }

        /// The next attribute of the tag; nil at its end.
        mutating func attribute() -> (name: String, value: String?)? {
            while let byte = next {
                if byte == UInt8(ascii: ">") || byte == UInt8(ascii: "<") { return nil }
                let name = name()
                if name.isEmpty {
                    position += 1
                    continue
                }
                skipBlanks()
                guard next == UInt8(ascii: "=") else { return (name, nil) }
                position += 1
                skipBlanks()
                return (name, value())
            }
            return nil
        }

        private mutating func value() -> String {
            if let quote = next, quote == UInt8(ascii: "\"") || quote == UInt8(ascii: "'") {
                position += 1
                let text = take { $0 != quote }
                position = min(position + 1, bytes.count)
                return text
            }
            return take { $0 > 32 && $0 != UInt8(ascii: ">") }
        }
    }

    private static let entities = ["amp": "&", "lt": "<", "gt": ">", "quot": "\"", "apos": "'"]

    /// Replaces the character references that servers write in links.
    private static func unescaped(_ text: String) -> String {
        guard text.contains("&") else { return text }
        var result = ""
        var rest = text[...]
        while let mark = rest.firstIndex(of: "&") {
            result += rest[..<mark]
            rest = rest[mark...]
            if let end = rest.prefix(12).firstIndex(of: ";"), let character = character(rest[..<end].dropFirst()) {
                result += character
                rest = rest[rest.index(after: end)...]
            } else {
                result += "&"
                rest = rest.dropFirst()
            }
        }
        return result + rest
    }

    private static func character(_ name: Substring) -> String? {
        if let known = entities[String(name)] { return known }
        guard name.hasPrefix("#") else { return nil }
        let digits = name.dropFirst()
        let isHex = digits.hasPrefix("x") || digits.hasPrefix("X")
        let code = isHex ? UInt32(digits.dropFirst(), radix: 16) : UInt32(digits)
        return code.flatMap { Unicode.Scalar($0) }.map { String(Character($0)) }
    }
}
