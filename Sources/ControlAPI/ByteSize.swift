/// Numbers of bytes as people write them.
package enum ByteSize {
    private static let units: [(suffixes: [String], bytes: UInt64)] = [
        (["b"], 1), (["k", "kib"], 1 << 10), (["m", "mib"], 1 << 20), (["g", "gib"], 1 << 30), (["t", "tib"], 1 << 40),
        (["kb"], 1000), (["mb"], 1_000_000), (["gb"], 1_000_000_000), (["tb"], 1_000_000_000_000),
    ]

    /// `50GiB`, `10G` (binary), `10GB` (decimal), `1.5g`, `4096`. nil for anything else, and for more than 2⁶³.
    package static func parse(_ text: String) -> UInt64? {
        let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        let suffix = text.dropFirst(digits.count).drop { $0 == " " }.lowercased()
        guard let unit = suffix.isEmpty ? 1 : units.first(where: { $0.suffixes.contains(suffix) })?.bytes else {
            return nil
        }
        if let whole = UInt64(digits) {
            let (bytes, overflow) = whole.multipliedReportingOverflow(by: unit)
            return overflow || bytes > 1 << 63 ? nil : bytes
        }
        guard digits.first?.isNumber == true, digits.last?.isNumber == true, let value = Double(digits) else {
            return nil
        }
        let bytes = value * Double(unit)
        return bytes <= Double(UInt64(1) << 63) ? UInt64(bytes.rounded()) : nil
    }

    /// At most four digits and a binary unit: `0 B`, `12.3 MiB`, `512 GiB`.
    package static func text(_ bytes: UInt64) -> String {
        var value = Double(bytes)
        var unit = "B"
        for next in ["KiB", "MiB", "GiB", "TiB", "PiB"] where value >= 1024 {
            value /= 1024
            unit = next
        }
        if unit == "B" || value >= 100 { return "\(Int(value.rounded())) \(unit)" }
        return "\(Self.tenths(value)) \(unit)"
    }

    /// One digit after the point, without Foundation's formatting.
    package static func tenths(_ value: Double) -> String {
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }
}
