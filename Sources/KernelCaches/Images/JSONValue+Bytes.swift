extension JSONValue {
    init(_ members: KeyValuePairs<String, JSONValue?>) {
        self = .object(members.compactMap { key, value in value.map { Member(key: key, value: $0) } })
    }

    /// As `init(_:)` reads it back. A number of which nothing is known is null.
    var bytes: [UInt8] {
        var text: [UInt8] = []
        append(to: &text)
        return text
    }

    private func append(to text: inout [UInt8]) {
        switch self {
        case .null, .otherNumber: text += "null".utf8
        case .bool(let value): text += "\(value)".utf8
        case .integer(let number): text += "\(number)".utf8
        case .string(let string): appendString(string, to: &text)
        case .array(let elements):
            text.append(UInt8(ascii: "["))
            for (number, element) in elements.enumerated() {
                if number > 0 { text.append(UInt8(ascii: ",")) }
                element.append(to: &text)
            }
            text.append(UInt8(ascii: "]"))
        case .object(let members):
            text.append(UInt8(ascii: "{"))
            for (number, member) in members.enumerated() {
                if number > 0 { text.append(UInt8(ascii: ",")) }
                appendString(member.key, to: &text)
                text.append(UInt8(ascii: ":"))
                member.value.append(to: &text)
            }
            text.append(UInt8(ascii: "}"))
        }
    }
}
