internal import Glibc

/// Dates in HTTP headers (RFC 9110 §5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`, and the two older forms that must be read.
package enum HTTPDate {
    private static let months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]

    /// Seconds since 1970; nil for anything else.
    package static func parse(_ text: some StringProtocol) -> Int64? {
        let fields = String(text).split(whereSeparator: { " ,-".contains($0) }).map { String($0) }
        // "Sun 06 Nov 1994 08:49:37 GMT", "Sunday 06 Nov 94 08:49:37 GMT", "Sun Nov 6 08:49:37 1994"
        if fields.count == 6, let day = Int(fields[1]), let month = month(fields[2]), let year = Int(fields[3]) {
            let fullYear = fields[3].count > 2 ? year : year + (year < 70 ? 2000 : 1900)
            return seconds(fullYear, month, day, fields[4])
        }
        if fields.count == 5, let month = month(fields[1]), let day = Int(fields[2]), let year = Int(fields[4]) {
            return seconds(year, month, day, fields[3])
        }
        return nil
    }

    private static func month(_ name: String) -> Int? {
        months.firstIndex(of: name.lowercased()).map { $0 + 1 }
    }

    private static func seconds(_ year: Int, _ month: Int, _ day: Int, _ time: String) -> Int64? {
        let parts = time.split(separator: ":").compactMap { Int($0) }
        guard parts.count == 3, (1600...9999).contains(year), (1...31).contains(day), (0...23).contains(parts[0]),
            (0...59).contains(parts[1]), (0...60).contains(parts[2])
        else { return nil }
        // Days since 1970 of the proleptic Gregorian calendar, counted in years that begin in March.
        let shifted = month <= 2 ? year - 1 : year
        let era = shifted / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        let days = era * 146_097 + dayOfEra - 719_468
        return Int64(days * 86_400 + parts[0] * 3600 + parts[1] * 60 + parts[2])
    }

    /// Seconds since 1970, now.
    static var now: Int64 { Int64(time(nil)) }
}
