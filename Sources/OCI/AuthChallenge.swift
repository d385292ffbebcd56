/// One challenge of a `WWW-Authenticate` header (RFC 9110 section 11.6.1).
struct AuthChallenge: Hashable, Sendable {
    /// Lower case.
    let scheme: String
    /// Names in lower case.
    let parameters: [String: String]

    /// All challenges of all such headers. What cannot be understood is left out.
    static func parse(_ headers: [String]) -> [AuthChallenge] { headers.flatMap(parse) }

    private static func parse(_ header: String) -> [AuthChallenge] {
        var scanner = Scanner(bytes: Array(header.utf8))
        var challenges: [AuthChallenge] = []
        var scheme: String?
        var parameters: [String: String] = [:]
        func end() {
            if let scheme { challenges.append(AuthChallenge(scheme: scheme, parameters: parameters)) }
            parameters = [:]
        }
        while true {
            scanner.skip { $0 == UInt8(ascii: ",") || Scanner.isBlank($0) }
            let word = scanner.take(while: Scanner.isToken)
            // Neither a scheme nor a parameter begins here: the rest means nothing.
            guard !word.isEmpty else { break }
            let mark = scanner
            scanner.skip(Scanner.isBlank)
            if scanner.next == UInt8(ascii: "="), scheme != nil {
                scanner.advance()
                scanner.skip(Scanner.isBlank)
                if let value = scanner.value() { parameters[word.lowercased()] = value } else { break }
            } else {
                scanner = mark
                end()
                scheme = word.lowercased()
            }
        }
        end()
        return challenges
    }

    private struct Scanner {
        let bytes: [UInt8]
        var index = 0

        init(bytes: [UInt8]) { self.bytes = bytes }

        var next: UInt8? { index < bytes.count ? bytes[index] : nil }

        mutating func advance() { index += 1 }

        mutating func skip(_ matches: (UInt8) -> Bool) {
            while let byte = next, matches(byte) { index += 1 }
        }

        mutating func take(while matches: (UInt8) -> Bool) -> String {
            let start = index
            skip(matches)
            return String(decoding: bytes[start..<index], as: UTF8.self)
        }

        /// Quoted, or bare up to a comma; nil for a quotation that does not end.
        mutating func value() -> String? {
            guard next == UInt8(ascii: "\"") else {
                return take { $0 != UInt8(ascii: ",") && !Scanner.isBlank($0) }
            }
            advance()
            var text: [UInt8] = []
            while let byte = next {
                advance()
                if byte == UInt8(ascii: "\"") { return String(decoding: text, as: UTF8.self) }
                if byte == UInt8(ascii: "\\"), let escaped = next {
                    advance()
                    text.append(escaped)
                } else {
                    text.append(byte)
                }
            }
            return nil
        }

        static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

        static func isToken(_ byte: UInt8) -> Bool {
            byte > 0x20 && byte < 0x7f && !"()<>@,;:\\\"/[]?={}".utf8.contains(byte)
        }
    }
}
