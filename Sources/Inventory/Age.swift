/// How long ago, as people write it: `45m`, `12h`, `30d`, `2w`.
package struct Age: Hashable, Sendable, Comparable {
    package let seconds: Int64

    private static let units: [Character: Int64] = ["m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400]

    package init(seconds: Int64) { self.seconds = seconds }

    /// A whole number and a unit, in any case. nil for anything else, and for more than ten thousand years.
    package init?(_ text: String) {
        let digits = text.dropLast()
        guard let unit = text.last.flatMap({ Self.units[Character($0.lowercased())] }),
            (1...9).contains(digits.utf8.count), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let count = Int64(digits), count * unit <= 10_000 * 366 * 86_400
        else { return nil }
        seconds = count * unit
    }

    package static func < (one: Self, other: Self) -> Bool { one.seconds < other.seconds }
}

extension Age: CustomStringConvertible {
    /// The largest unit of which there are two or more, so that one digit is not all that is told; `0m` at least.
    package var description: String {
        for (unit, sign) in [(Int64(14 * 86_400), "w"), (2 * 86_400, "d"), (2 * 3600, "h")] where seconds >= unit {
            return "\(seconds / (Self.units[Character(sign)] ?? 1))\(sign)"
        }
        return "\(max(0, seconds) / 60)m"
    }
}
