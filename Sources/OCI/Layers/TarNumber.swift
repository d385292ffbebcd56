/// The number fields of a tar header.
enum TarNumber {
    /// Octal text padded with spaces and NULs, or, where the first byte has its high bit set, a big-endian two's
    /// complement number (GNU's base 256). An empty field is 0.
    ///
    /// - Returns: nil where the field is neither, or does not fit.
    static func parse(_ field: ArraySlice<UInt8>) -> Int64? {
        guard let first = field.first else { return 0 }
        return first & 0x80 == 0 ? octal(field) : binary(field, first)
    }

    private static func octal(_ field: ArraySlice<UInt8>) -> Int64? {
        let isPadding = { (byte: UInt8) in byte == 0 || byte == UInt8(ascii: " ") }
        var value: Int64 = 0
        for byte in field.drop(while: isPadding) {
            // What follows the terminator is left over from whatever the writer had in its buffer.
            if isPadding(byte) { break }
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "7"), value >> 60 == 0 else { return nil }
            value = value << 3 | Int64(byte - UInt8(ascii: "0"))
        }
        return value
    }

    private static func binary(_ field: ArraySlice<UInt8>, _ first: UInt8) -> Int64? {
        // Seven bits of the first byte belong to the number; the highest of them is its sign.
        var value = Int64(Int8(bitPattern: first << 1) >> 1)
        for byte in field.dropFirst() {
            let (shifted, overflow) = value.multipliedReportingOverflow(by: 256)
            if overflow { return nil }
            value = shifted | Int64(byte)
        }
        return value
    }

    /// A decimal number of a PAX record; nil for anything but digits, or where it does not fit.
    static func decimal(_ text: some Sequence<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        var isEmpty = true
        for byte in text {
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
            let (shifted, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = shifted.addingReportingOverflow(UInt64(byte - UInt8(ascii: "0")))
            if overflow || carry { return nil }
            value = sum
            isEmpty = false
        }
        return isEmpty ? nil : value
    }
}
