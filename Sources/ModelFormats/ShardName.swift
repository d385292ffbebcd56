/// The name of one file of several that hold a model: `model-00001-of-00030.safetensors`, as the Hub and llama.cpp number them.
package struct ShardName: Sendable, Equatable {
    /// What is before the number, the last `-` included.
    package let prefix: [UInt8]
    /// From 1 on.
    package let index: Int
    package let count: Int
    /// From the `.` on.
    package let suffix: [UInt8]
    /// Digits of both numbers.
    private let width: Int

    /// nil for a name of another form.
    package init?(_ name: some Collection<UInt8>) {
        let bytes = Array(name)
        guard let dot = bytes.lastIndex(of: UInt8(ascii: ".")) else { return nil }
        let stem = bytes[..<dot]
        guard let (count, countDigits) = Self.trailingNumber(stem) else { return nil }
        let beforeCount = stem.dropLast(countDigits)
        guard beforeCount.suffix(4).elementsEqual("-of-".utf8) else { return nil }
        let beforeOf = beforeCount.dropLast(4)
        guard let (index, digits) = Self.trailingNumber(beforeOf), digits == countDigits, (1...count).contains(index),
            beforeOf.dropLast(digits).last == UInt8(ascii: "-")
        else { return nil }
        prefix = Array(beforeOf.dropLast(digits))
        self.index = index
        self.count = count
        suffix = Array(bytes[dot...])
        width = digits
    }

    /// The name of the one behind it; nil for the last.
    package var next: [UInt8]? {
        index < count ? prefix + digits(index + 1) + Array("-of-".utf8) + digits(count) + suffix : nil
    }

    private func digits(_ number: Int) -> [UInt8] {
        let text = Array(String(number).utf8)
        return [UInt8](repeating: UInt8(ascii: "0"), count: max(0, width - text.count)) + text
    }

    /// The number at the end, of at most nine digits.
    private static func trailingNumber(_ bytes: ArraySlice<UInt8>) -> (number: Int, digits: Int)? {
        let digits = bytes.reversed().prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }.count
        guard (1...9).contains(digits) else { return nil }
        let number = bytes.suffix(digits).reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
        return number > 0 ? (number, digits) : nil
    }
}
