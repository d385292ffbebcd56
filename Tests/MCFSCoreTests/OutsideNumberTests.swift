import MCFSCore
import Testing

@Suite struct OutsideNumberTests {
    @Test(
        "a number of bytes is decimal digits, and no more than a file may have",
        arguments: [
            ("0", 0), ("007", 7), ("70368744177664", 1 << 46), ("70368744177665", nil), ("9223372036854775807", nil),
            ("18446744073709551616", nil), ("99999999999999999999999999999999", nil), ("", nil), ("-1", nil),
            ("+1", nil),
            (" 1", nil), ("1.0", nil), ("0x10", nil), ("1e3", nil), ("١", nil),
        ] as [(String, UInt64?)])
    func texts(text: String, count: UInt64?) { #expect(OutsideNumber.byteCount(text) == count) }

    @Test("numbers of any width come in by the same door")
    func numbers() {
        #expect(OutsideNumber.byteCount(Int64(-1)) == nil && OutsideNumber.byteCount(Int64.max) == nil)
        #expect(OutsideNumber.byteCount(UInt64.max) == nil && OutsideNumber.byteCount(UInt64(5)) == 5)
    }

    @Test("what is no number is another case than a number that nothing has")
    func throwing() throws {
        #expect(try OutsideNumber.byteCount("none", of: "it") == nil)
        #expect(try OutsideNumber.byteCount("12", of: "it") == 12)
        for text in ["70368744177665", "18446744073709551615", String(repeating: "9", count: 500)] {
            let error = #expect(throws: MCFSError.self) { try OutsideNumber.byteCount(text, of: "it") }
            #expect(error?.code == .corrupt && (error?.message.utf8.count ?? 0) < 200)
        }
    }

    @Test("a time can be reckoned with, whatever was said")
    func times() {
        let last = Timestamp(seconds: .max, nanoseconds: .max).clamped
        let first = Timestamp(seconds: .min).clamped
        #expect(last.seconds - first.seconds > 0 && last.nanoseconds == 999_999_999)
        #expect(Timestamp(seconds: -5, nanoseconds: 7).clamped == Timestamp(seconds: -5, nanoseconds: 7))
        let entry = TreeEntry(.root, .directory, permissions: 0o755, modified: Timestamp(seconds: .min))
        #expect(entry.modified == first)
    }

    @Test("a difference or a sum that no number can hold is the nearest one")
    func clamped() {
        #expect(Int64.min.subtractingClamped(1) == .min && Int64.max.subtractingClamped(-1) == .max)
        #expect(Int64(0).subtractingClamped(.min) == .max && Int64(7).subtractingClamped(9) == -2)
        #expect(Int64.max.addingClamped(1) == .max && Int64.min.addingClamped(-1) == .min)
    }

    @Test("a content is possible where a file may be so large and lie there")
    func contents() {
        func content(_ size: UInt64, _ offset: UInt64) -> Content {
            Content(id: BlobID(origin: "x"), size: size, source: 0, offset: offset)
        }
        #expect(content(1 << 46, 1 << 61).isPossible)
        #expect(!content(1 << 46 + 1, 0).isPossible && !content(1, 1 << 62).isPossible && !content(1, .max).isPossible)
    }

    @Test("entries and bytes of a reference are counted over all of its parts")
    func budget() throws {
        let budget = MetadataBudget(entriesMax: 10, bytesMax: 100)
        for _ in 0..<2 { try budget.take(entries: 5, bytes: 20, of: "it") }
        #expect(throws: MCFSError.self) { try budget.take(entries: 1, bytes: 0, of: "it") }
        let names = MetadataBudget(entriesMax: 10, bytesMax: 100)
        try names.take(entries: 1, bytes: 100, of: "it")
        let error = #expect(throws: MCFSError.self) { try names.take(entries: 1, bytes: .max - 200, of: "it") }
        #expect(error?.code == .unsupported)
    }

    @Test("what is from outside is shown without control characters")
    func shown() {
        #expect(MCFSError(.corrupt, "the name '\u{1b}[2J\0\u{9b}1m' of ü").message == "the name '?[2J??1m' of ü")
        #expect(MCFSError.shown(Array("a\u{1b}[2J\u{9b}1mü\n".utf8)) == "a?[2J?1mü?")
        #expect(MCFSError.shown(Array("abcdef".utf8), bytesMax: 3) == "abc…")
    }
}
