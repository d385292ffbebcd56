/// The door for numbers that others send: sizes in listings, manifests and heads of answers, times of files.
///
/// What came by here is bounded, so that a few of them can be added up whatever they are. Sums over many are clamped
/// (`addingClamped`). `scripts/check-layers` refuses other ways of reading such numbers, and arithmetic with them that can trap.
package enum OutsideNumber {
    /// Most bytes of a file, an object or a layer: more than any that is served, and few enough that a map of its chunks can
    /// be made.
    package static let bytesMax: UInt64 = 1 << 46
    /// Where a file may end in its source, at most.
    package static let offsetMax: UInt64 = 1 << 62
    /// Seconds before and after 1970: a billion years.
    package static let secondsMax: Int64 = 1 << 55

    /// A number of bytes, as decimal digits. nil for anything else, and for more than `bytesMax`.
    package static func byteCount(_ text: some StringProtocol) -> UInt64? {
        switch read(text) {
        case .number(let number): byteCount(number)
        case .greater, .none: nil
        }
    }

    /// nil for a number that is negative or more than `bytesMax`.
    package static func byteCount(_ number: some BinaryInteger) -> UInt64? {
        UInt64(exactly: number).flatMap { $0 <= bytesMax ? $0 : nil }
    }

    /// A number of bytes, where it is another case that there is none.
    ///
    /// - Parameter what: is said to have so many; for the message.
    /// - Returns: nil for anything but decimal digits.
    /// - Throws: `corrupt` for more than `bytesMax`.
    package static func byteCount(
        _ text: some StringProtocol, of what: @autoclosure () -> String
    ) throws(MCFSError) -> UInt64? {
        switch read(text) {
        case .none: return nil
        case .number(let number) where number <= bytesMax: return number
        case .number, .greater: throw tooLarge(what(), "\(text.prefix(24))")
        }
    }

    /// - Throws: `corrupt` for more than `bytesMax`.
    package static func check(byteCount: UInt64, of what: @autoclosure () -> String) throws(MCFSError) {
        if byteCount > bytesMax { throw tooLarge(what(), String(byteCount)) }
    }

    private static func tooLarge(_ what: String, _ number: String) -> MCFSError {
        MCFSError(
            .corrupt,
            "\(what) is said to have \(number) bytes, more than the \(bytesMax >> 40) TiB that a file may have here")
    }

    private enum Reading {
        case none, greater
        case number(UInt64)
    }

    private static func read(_ text: some StringProtocol) -> Reading {
        guard !text.isEmpty, text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else {
            return .none
        }
        return UInt64(text).map { .number($0) } ?? .greater
    }
}

extension Content {
    /// Whether a file can have the size and lie there.
    package var isPossible: Bool {
        size <= OutsideNumber.bytesMax && offset <= OutsideNumber.offsetMax - OutsideNumber.bytesMax
    }
}

extension Timestamp {
    /// The nearest time that can be reckoned with.
    package var clamped: Timestamp {
        let bound = OutsideNumber.secondsMax
        return Timestamp(seconds: min(max(seconds, -bound), bound), nanoseconds: min(nanoseconds, 999_999_999))
    }
}
