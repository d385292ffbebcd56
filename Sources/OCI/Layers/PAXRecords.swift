internal import MCFSCore

/// The records of a PAX extended header (POSIX.1-2001 `pax`) that say something about where and what an entry is.
struct PAXRecords {
    enum Key: String {
        case path, linkpath, size, uid, gid, mtime
    }

    /// An empty value takes back what a global header or the entry's own header field says.
    private(set) var values: [Key: [UInt8]] = [:]
    /// Whether any `GNU.sparse.` record is there: the data are then not the file.
    private(set) var isSparse = false

    init() {}

    /// Reads `LENGTH KEY=VALUE\n` records; a length counts its whole record. A key that comes twice: the last one wins.
    /// nil where they are malformed.
    init?(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            guard let space = rest.prefix(20).firstIndex(of: UInt8(ascii: " ")),
                let length = TarNumber.decimal(rest[rest.startIndex..<space]).flatMap(Int.init(exactly:)),
                length <= rest.count, length > space + 1 - rest.startIndex
            else { return nil }
            let record = rest[space + 1..<rest.startIndex + length]
            guard record.last == UInt8(ascii: "\n"), let equals = record.firstIndex(of: UInt8(ascii: "=")),
                equals > record.startIndex
            else { return nil }
            let name = String(decoding: record[record.startIndex..<equals], as: UTF8.self)
            if let key = Key(rawValue: name) { values[key] = Array(record[(equals + 1)...].dropLast()) }
            if name.hasPrefix("GNU.sparse.") { isSparse = true }
            rest = rest.dropFirst(length)
        }
    }

    /// Adds `other`, whose values win.
    mutating func merge(_ other: PAXRecords) {
        values.merge(other.values) { $1 }
        isSparse = isSparse || other.isSparse
    }

    /// Seconds since 1970 as a decimal fraction, possibly negative. nil where it is none or out of range.
    static func time(_ text: [UInt8]) -> Timestamp? {
        let isNegative = text.first == UInt8(ascii: "-")
        let parts = text.dropFirst(isNegative ? 1 : 0)
            .split(separator: UInt8(ascii: "."), maxSplits: 1, omittingEmptySubsequences: false)
        guard let whole = parts.first, let seconds = TarNumber.decimal(whole).flatMap(Int64.init(exactly:)) else {
            return nil
        }
        var nanoseconds: UInt32 = 0
        if parts.count == 2 {
            let digits = parts[1]
            guard digits.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }) else { return nil }
            for place in 0..<9 {
                let digit = place < digits.count ? digits[digits.startIndex + place] - UInt8(ascii: "0") : 0
                nanoseconds = nanoseconds * 10 + UInt32(digit)
            }
        }
        guard isNegative else { return Timestamp(seconds: seconds, nanoseconds: nanoseconds) }
        // Nanoseconds count forwards from the second below.
        if nanoseconds == 0 { return Timestamp(seconds: -seconds) }
        return Timestamp(seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds)
    }
}
