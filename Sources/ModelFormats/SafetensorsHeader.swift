internal import MCFSCore

/// The header of a safetensors file: its length as eight bytes, little endian, then one JSON object that maps the name of each
/// tensor to an object whose `data_offsets` are its first byte and the one behind its last, counted from the end of the header.
///
/// Format: https://huggingface.co/docs/safetensors. Only the offsets are taken; a header of many megabytes makes no more
/// of them than a pair of numbers for each tensor.
enum SafetensorsHeader {
    static func read(_ prefix: UnsafeRawBufferPointer, fileSize: UInt64) -> ModelFormat.Reading {
        guard prefix.count >= 8 else { return .needs(8) }
        let length = UInt64(littleEndian: prefix.loadUnaligned(as: UInt64.self))
        let (dataStart, overflow) = length.addingReportingOverflow(8)
        guard length >= 2, !overflow, dataStart <= fileSize else { return .unknown }
        guard UInt64(prefix.count) >= dataStart else {
            return dataStart <= ModelFormat.headerBytesMax ? .needs(dataStart) : .unknown
        }
        var text = JSONText(UnsafeRawBufferPointer(rebasing: prefix[8..<Int(dataStart)]))
        guard let ranges = tensors(&text, from: dataStart), let layout = TensorLayout(ranges, fileSize: fileSize) else {
            return .unknown
        }
        return .layout(layout)
    }

    private static func tensors(_ text: inout JSONText, from dataStart: UInt64) -> [ByteRange]? {
        var ranges: [ByteRange] = []
        let isWhole = text.object { text, name in
            if JSONText.equals(name, "__metadata__") { return text.skip() }
            return text.object { text, key in
                guard JSONText.equals(key, "data_offsets") else { return text.skip() }
                guard let (begin, end) = text.pair(), begin <= end, ranges.count < TensorLayout.tensorsMax else {
                    return false
                }
                let (low, lowOverflow) = dataStart.addingReportingOverflow(begin)
                let (high, highOverflow) = dataStart.addingReportingOverflow(end)
                guard !lowOverflow, !highOverflow else { return false }
                ranges.append(ByteRange(low, high))
                return true
            }
        }
        return isWhole ? ranges : nil
    }
}

/// JSON, read once from front to back without making anything of it.
private struct JSONText {
    private let bytes: UnsafeRawBufferPointer
    private var position = 0

    /// Deeper nesting is refused: it is no header, but may be an attack on the stack.
    private static let depthMax = 16

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    static func equals(_ text: UnsafeRawBufferPointer, _ wanted: StaticString) -> Bool {
        wanted.withUTF8Buffer { text.elementsEqual($0) }
    }

    /// Reads an object; `member` is called at each value, with the key as it is written, and must read the value.
    /// - Returns: whether there was a whole object.
    mutating func object(_ member: (inout JSONText, UnsafeRawBufferPointer) -> Bool) -> Bool {
        guard take("{") else { return false }
        if take("}") { return true }
        repeat {
            guard let key = string(), take(":"), member(&self, key) else { return false }
        } while take(",")
        return take("}")
    }

    /// `[a, b]`.
    mutating func pair() -> (UInt64, UInt64)? {
        guard take("["), let first = number(), take(","), let second = number(), take("]") else { return nil }
        return (first, second)
    }

    /// Passes over any value.
    mutating func skip(depth: Int = 0) -> Bool {
        guard depth < Self.depthMax else { return false }
        skipSpace()
        guard position < bytes.count else { return false }
        switch bytes[position] {
        case UInt8(ascii: "\""): return string() != nil
        case UInt8(ascii: "{"): return object { text, _ in text.skip(depth: depth + 1) }
        case UInt8(ascii: "["):
            position += 1
            if take("]") { return true }
            repeat {
                guard skip(depth: depth + 1) else { return false }
            } while take(",")
            return take("]")
        default:
            // A number or a word.
            let start = position
            while position < bytes.count, Self.isOfWord(bytes[position]) { position += 1 }
            return position > start
        }
    }

    private static func isOfWord(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."):
            true
        default: false
        }
    }

    /// The bytes between the quotes, escapes and all.
    private mutating func string() -> UnsafeRawBufferPointer? {
        guard take("\"") else { return nil }
        let start = position
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "\""):
                position += 1
                return UnsafeRawBufferPointer(rebasing: bytes[start..<position - 1])
            case UInt8(ascii: "\\"): position += 2
            default: position += 1
            }
        }
        return nil
    }

    private mutating func number() -> UInt64? {
        skipSpace()
        let start = position
        var value: UInt64 = 0
        while position < bytes.count, case let digit = bytes[position] &- UInt8(ascii: "0"), digit < 10 {
            let (product, isLarge) = value.multipliedReportingOverflow(by: 10)
            let (sum, isLarger) = product.addingReportingOverflow(UInt64(digit))
            guard !isLarge, !isLarger else { return nil }
            value = sum
            position += 1
        }
        return position > start ? value : nil
    }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        skipSpace()
        guard position < bytes.count, bytes[position] == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    private mutating func skipSpace() {
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: " "), UInt8(ascii: "\n"), UInt8(ascii: "\r"), UInt8(ascii: "\t"): position += 1
            default: return
            }
        }
    }
}
