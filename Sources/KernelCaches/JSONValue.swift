/// A JSON text, objects in their order. Reads what Python's `json` writes, and is stricter than it where producers could
/// mean two things: a key that comes twice is an error.
///
/// Foundation's decoders keep no order of keys, tell `true` from `1` only with care, and follow any nesting.
enum JSONValue: Hashable, Sendable {
    case null
    case bool(Bool)
    case integer(Int)
    /// A number with a fraction or an exponent, one that no `Int` holds, `NaN` or `Infinity`: none is an answer here.
    case otherNumber
    case string(String)
    case array([JSONValue])
    case object([Member])

    struct Member: Hashable, Sendable {
        var key: String
        var value: JSONValue
    }

    /// Deeper than any of the files that are read here, and no danger to a thread's stack.
    static let depthMax = 32
    /// A value takes much more memory than the two bytes that can be all of it.
    static let valuesMax = 1 << 20

    /// - Throws: a sentence's end: "is not JSON (byte 12)".
    init(_ bytes: [UInt8]) throws(MetadataFlaw) {
        do {
            self = try bytes.withUnsafeBufferPointer { bytes throws(MetadataFlaw) in
                var reader = Reader(bytes)
                let value = try reader.value(depth: 0)
                guard reader.isAtEnd else { throw reader.flaw }
                return value
            }
        }
    }

    /// nil for anything but an object that has `key`.
    subscript(key: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.key == key }?.value
    }

    var string: String? { if case .string(let text) = self { text } else { nil } }
    var integer: Int? { if case .integer(let number) = self { number } else { nil } }
    var elements: [JSONValue]? { if case .array(let elements) = self { elements } else { nil } }
    var members: [Member]? { if case .object(let members) = self { members } else { nil } }
}

private struct Reader {
    private let bytes: UnsafeBufferPointer<UInt8>
    private var position = 0
    private var valueCount = 0

    init(_ bytes: UnsafeBufferPointer<UInt8>) {
        self.bytes = bytes
        skipSpace()
    }

    var isAtEnd: Bool { position == bytes.count }
    var flaw: MetadataFlaw { MetadataFlaw("is not JSON (byte \(position))") }

    mutating func value(depth: Int) throws(MetadataFlaw) -> JSONValue {
        guard depth < JSONValue.depthMax else { throw MetadataFlaw("is nested too deeply") }
        valueCount += 1
        guard valueCount <= JSONValue.valuesMax else { throw MetadataFlaw("holds too many values") }
        let value: JSONValue
        switch peek {
        case UInt8(ascii: "{"): value = try object(depth: depth)
        case UInt8(ascii: "["): value = try array(depth: depth)
        case UInt8(ascii: "\""): value = .string(try string())
        default:
            if skip("true") {
                value = .bool(true)
            } else if skip("false") {
                value = .bool(false)
            } else if skip("null") {
                value = .null
            } else if skip("NaN") || skip("Infinity") || skip("-Infinity") {
                value = .otherNumber
            } else {
                value = try number()
            }
        }
        skipSpace()
        return value
    }

    private mutating func object(depth: Int) throws(MetadataFlaw) -> JSONValue {
        try expect("{")
        var members: [JSONValue.Member] = []
        if !accept("}") {
            repeat {
                let key = try string()
                skipSpace()
                try expect(":")
                members.append(JSONValue.Member(key: key, value: try value(depth: depth + 1)))
            } while accept(",")
            try expect("}")
        }
        var keys = Set<String>(minimumCapacity: members.count)
        for member in members where !keys.insert(member.key).inserted {
            throw MetadataFlaw("has the key '\(short(member.key, 60))' twice")
        }
        return .object(members)
    }

    private mutating func array(depth: Int) throws(MetadataFlaw) -> JSONValue {
        try expect("[")
        var elements: [JSONValue] = []
        if !accept("]") {
            repeat { elements.append(try value(depth: depth + 1)) } while accept(",")
            try expect("]")
        }
        return .array(elements)
    }

    private mutating func number() throws(MetadataFlaw) -> JSONValue {
        let start = position
        if peek == UInt8(ascii: "-") { position += 1 }
        let first = position
        let digits = skipDigits()
        guard digits > 0, digits == 1 || bytes[first] != UInt8(ascii: "0") else { throw flaw }
        let end = position
        if peek == UInt8(ascii: ".") {
            position += 1
            guard skipDigits() > 0 else { throw flaw }
        }
        if peek == UInt8(ascii: "e") || peek == UInt8(ascii: "E") {
            position += 1
            if peek == UInt8(ascii: "+") || peek == UInt8(ascii: "-") { position += 1 }
            guard skipDigits() > 0 else { throw flaw }
        }
        guard position == end, digits <= 20,
            let integer = Int(String(decoding: bytes[start..<end], as: UTF8.self))
        else { return .otherNumber }
        return .integer(integer)
    }

    private mutating func skipDigits() -> Int {
        let start = position
        while let byte = peek, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") { position += 1 }
        return position - start
    }

    /// A string as a file name is: lone surrogates, with which Python writes names that are not UTF-8, are no text.
    private mutating func string() throws(MetadataFlaw) -> String {
        guard peek == UInt8(ascii: "\"") else { throw flaw }
        position += 1
        var start = position
        var decoded: [UInt8] = []
        while let byte = peek {
            switch byte {
            case UInt8(ascii: "\""):
                defer { position += 1 }
                let rest = bytes[start..<position]
                if decoded.isEmpty {
                    guard let text = String(validating: rest, as: UTF8.self) else { throw flaw }
                    return text
                }
                decoded += rest
                guard let text = String(validating: decoded, as: UTF8.self) else { throw flaw }
                return text
            case UInt8(ascii: "\\"):
                decoded += bytes[start..<position]
                position += 1
                try escape(into: &decoded)
                start = position
            case 0..<0x20: throw flaw
            default: position += 1
            }
        }
        throw flaw
    }

    private mutating func escape(into decoded: inout [UInt8]) throws(MetadataFlaw) {
        guard let byte = peek else { throw flaw }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): decoded.append(byte)
        case UInt8(ascii: "b"): decoded.append(0x08)
        case UInt8(ascii: "f"): decoded.append(0x0c)
        case UInt8(ascii: "n"): decoded.append(0x0a)
        case UInt8(ascii: "r"): decoded.append(0x0d)
        case UInt8(ascii: "t"): decoded.append(0x09)
        case UInt8(ascii: "u"):
            var code = try hexadecimal()
            if 0xd800...0xdbff ~= code, skip("\\u") {
                let low = try hexadecimal()
                guard 0xdc00...0xdfff ~= low else { throw flaw }
                code = 0x1_0000 + (code - 0xd800) << 10 + (low - 0xdc00)
            }
            guard let scalar = Unicode.Scalar(code) else { throw flaw }
            decoded += scalar.utf8
        default: throw flaw
        }
    }

    private mutating func hexadecimal() throws(MetadataFlaw) -> UInt32 {
        var code: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = peek, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else { throw flaw }
            position += 1
            code = code << 4 | UInt32(digit)
        }
        return code
    }

    // MARK: - Bytes

    private var peek: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpace() {
        while let byte = peek, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { position += 1 }
    }

    private mutating func skip(_ word: StaticString) -> Bool {
        let count = word.utf8CodeUnitCount
        guard bytes.count - position >= count else { return false }
        for offset in 0..<count where bytes[position + offset] != word.utf8Start[offset] { return false }
        position += count
        return true
    }

    /// A sign and the space after it.
    private mutating func accept(_ sign: Unicode.Scalar) -> Bool {
        guard peek == UInt8(ascii: sign) else { return false }
        position += 1
        skipSpace()
        return true
    }

    private mutating func expect(_ sign: Unicode.Scalar) throws(MetadataFlaw) {
        guard accept(sign) else { throw flaw }
    }
}
