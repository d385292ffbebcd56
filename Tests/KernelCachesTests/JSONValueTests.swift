import Testing

@testable import KernelCaches

@Suite("JSON")
struct JSONValueTests {
    @Test(
        "values are what JSON says",
        arguments: [
            ("null", JSONValue.null), (" true ", .bool(true)), ("false", .bool(false)), ("0", .integer(0)),
            ("-0", .integer(0)), ("9223372036854775807", .integer(.max)), ("-9223372036854775808", .integer(.min)),
            ("9223372036854775808", .otherNumber), ("1\(String(repeating: "0", count: 5000))", .otherNumber),
            ("1.0", .otherNumber), ("1e5", .otherNumber), ("-1.5E-300", .otherNumber), ("NaN", .otherNumber),
            ("-Infinity", .otherNumber), (#""""#, .string("")),
            (#""a\"\\\/\b\f\n\r\t\u00e9""#, .string("a\"\\/\u{8}\u{c}\n\r\té")),
            (#""\ud83d\ude00""#, .string("😀")), (#""é😀""#, .string("é😀")), ("[]", .array([])),
            ("[1 ,\n2]", .array([.integer(1), .integer(2)])), ("{ }", .object([])),
            (
                #"{"b":1, "a" : [true]}"#,
                .object([.init(key: "b", value: .integer(1)), .init(key: "a", value: .array([.bool(true)]))])
            ),
        ])
    func values(_ text: String, _ value: JSONValue) throws { #expect(try JSONValue(Array(text.utf8)) == value) }

    @Test(
        "what is no JSON is refused, and the place told",
        arguments: [
            ("", 0), (" ", 1), ("{", 1), ("[1", 2), ("[1,]", 3), ("{\"a\"}", 4), ("{\"a\":1,}", 7), ("01", 2), ("-", 1),
            ("1.", 2), ("1e", 2), ("+1", 0), ("tru", 0), ("'a'", 0), ("\"a", 2), ("\"\n\"", 1), (#""\x""#, 3),
            (#""\u12""#, 5), (#""\ud800""#, 7), (#""\udc80""#, 7), (#""\ud800\u0041""#, 13), ("1 2", 2),
            ("\u{feff}{}", 0), ("nullx", 4),
        ])
    func flaws(_ text: String, _ position: Int) {
        #expect(throws: MetadataFlaw("is not JSON (byte \(position))")) { try JSONValue(Array(text.utf8)) }
    }

    @Test("bytes that are no UTF-8 are refused")
    func notText() {
        for byte in UInt8(0x80)...0xff {
            #expect(throws: MetadataFlaw.self) { try JSONValue([UInt8(ascii: "\""), byte, UInt8(ascii: "\"")]) }
        }
    }

    @Test("a key that comes twice is refused")
    func duplicates() {
        #expect(throws: MetadataFlaw("has the key 'a' twice")) {
            try JSONValue(Array(#"{"b": {"a": 1, "c": 2, "a": 1}}"#.utf8))
        }
    }

    @Test("nesting has an end, and a mebibyte of it does no harm", arguments: ["[", "{\"a\":", "[{\"a\":["])
    func nesting(_ opening: String) {
        let bytes = Array(String(repeating: opening, count: (1 << 20) / opening.utf8.count).utf8)
        #expect(throws: MetadataFlaw("is nested too deeply")) { try JSONValue(bytes) }
    }

    @Test("the number of values has an end")
    func values() {
        let bytes = Array("[\(String(repeating: "0,", count: JSONValue.valuesMax))0]".utf8)
        #expect(throws: MetadataFlaw("holds too many values")) { try JSONValue(bytes) }
    }
}
