internal import MCFSCore

/// Times as S3 and the credential services write them.
enum S3Time {
    /// RFC 3339, as `2026-11-20T10:11:12.123Z` or with an offset. nil for anything else.
    static func timestamp(rfc3339 text: String) -> Timestamp? {
        let bytes = Array(text.utf8)
        func number(_ range: Range<Int>) -> Int64? {
            guard range.upperBound <= bytes.count else { return nil }
            return decimal(bytes[range])
        }
        guard bytes.count >= 20, bytes[4] == UInt8(ascii: "-"), bytes[7] == UInt8(ascii: "-"),
            bytes[10] | 0x20 == UInt8(ascii: "t"),
            bytes[13] == UInt8(ascii: ":"), bytes[16] == UInt8(ascii: ":"), let year = number(0..<4),
            let month = number(5..<7), let day = number(8..<10), let hour = number(11..<13),
            let minute = number(14..<16), let second = number(17..<19),
            var seconds = seconds(year, month, day, hour, minute, second)
        else { return nil }
        var rest = bytes[19...]
        var nanoseconds: UInt32 = 0
        if rest.first == UInt8(ascii: ".") {
            let digits = rest.dropFirst().prefix { $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }
            guard !digits.isEmpty else { return nil }
            let padded = Array(digits.prefix(9)) + Array(repeating: UInt8(ascii: "0"), count: max(0, 9 - digits.count))
            nanoseconds = UInt32(decimal(padded[...]) ?? 0)
            rest = rest.dropFirst(digits.count + 1)
        }
        guard let mark = rest.first else { return nil }
        if mark | 0x20 == UInt8(ascii: "z") {
            guard rest.count == 1 else { return nil }
        } else {
            guard mark == UInt8(ascii: "+") || mark == UInt8(ascii: "-"), rest.count == 6,
                rest[rest.startIndex + 3] == UInt8(ascii: ":"),
                let hours = decimal(rest[rest.startIndex + 1..<rest.startIndex + 3]),
                let minutes = decimal(rest[rest.startIndex + 4..<rest.startIndex + 6])
            else { return nil }
            let offset = hours * 3600 + minutes * 60
            seconds += mark == UInt8(ascii: "+") ? -offset : offset
        }
        return Timestamp(seconds: seconds, nanoseconds: nanoseconds)
    }

    /// At most 9 digits and nothing else.
    private static func decimal(_ digits: ArraySlice<UInt8>) -> Int64? {
        guard !digits.isEmpty, digits.count <= 9 else { return nil }
        var value: Int64 = 0
        for digit in digits {
            guard digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9") else { return nil }
            value = value * 10 + Int64(digit - UInt8(ascii: "0"))
        }
        return value
    }

    private static func seconds(
        _ year: Int64, _ month: Int64, _ day: Int64, _ hour: Int64, _ minute: Int64, _ second: Int64
    ) -> Int64? {
        guard (1...9999).contains(year), (1...12).contains(month), (1...31).contains(day), hour <= 24, minute < 60,
            second <= 60
        else { return nil }
        // Years begin in March, so that the leap day is the last one of a year.
        let shiftedYear = month <= 2 ? year - 1 : year
        let era = shiftedYear / 400
        let yearOfEra = shiftedYear - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let days = era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
        return days * 86400 + hour * 3600 + minute * 60 + second
    }
}
