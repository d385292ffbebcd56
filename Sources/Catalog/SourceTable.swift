package import MCFSCore

/// The descriptors of a tree's sources in little memory: a million files of one bucket have a million of them that say
/// nearly the same.
///
/// A descriptor is the number of its set of keys and its values, each as what it adds to the value that the same key had
/// last: nothing for what all have in common, the end of a path, half a byte for a digit of a digest. Every
/// `blockCount` descriptors this begins anew, so that any one is found by reading a few. docs/cache-format.md#trees has
/// the bytes.
package struct SourceTable: Sendable {
    static let blockCount = 16

    package private(set) var count = 0
    /// All keys, each once, and the sets of them that descriptors have, as indexes into `keys`.
    private(set) var keys: [String] = []
    private(set) var shapes: [[Int]] = []
    private(set) var records: [UInt8] = []
    /// Where in `records` each block begins.
    private(set) var blocks: [UInt64] = []

    private var keyNumbers: [String: Int] = [:]
    private var shapeNumbers: [[Int]: Int] = [:]
    /// What each key had last in the block that is being written.
    private var last: [[UInt8]?] = []

    package init() {}

    package init(_ descriptors: some Sequence<SourceDescriptor>) {
        for descriptor in descriptors { append(descriptor) }
    }

    package mutating func append(_ descriptor: SourceDescriptor) {
        if count % Self.blockCount == 0 {
            blocks.append(UInt64(records.count))
            for key in last.indices { last[key] = nil }
        }
        let shape = shapeNumber(of: descriptor.properties.keys.sorted())
        records.append(packed: UInt64(shape))
        for key in shapes[shape] {
            let value = Array((descriptor.properties[keys[key]] ?? "").utf8)
            append(value, after: last[key])
            last[key] = value
        }
        count += 1
    }

    package mutating func append(contentsOf other: SourceTable) {
        if count == 0 {
            self = other
            return
        }
        other.forEach { append($0) }
    }

    /// The numbers of the descriptors that have this key.
    package func indices(having key: String) -> [Int] {
        let isAny = keys.contains(key)
        var result: [Int] = []
        if isAny { forEachNumbered { number, descriptor in if descriptor[key] != nil { result.append(number) } } }
        return result
    }

    /// In order, which is cheaper than one after the other by its number.
    package func forEach(_ body: (SourceDescriptor) -> Void) { forEachNumbered { body($1) } }

    private func forEachNumbered(_ body: (Int, SourceDescriptor) -> Void) {
        records.withUnsafeBytes { bytes in
            var reader = RecordReader(self, bytes, at: 0)
            for number in 0..<count {
                if number % Self.blockCount == 0 { reader.beginBlock() }
                guard let shape = reader.next() else { return }
                body(number, descriptor(shape, reader.values))
            }
        }
    }

    private func descriptor(_ shape: Int, _ values: [[UInt8]]) -> SourceDescriptor {
        var descriptor = SourceDescriptor([:])
        for key in shapes[shape] { descriptor.properties[keys[key]] = String(decoding: values[key], as: UTF8.self) }
        return descriptor
    }

    private mutating func shapeNumber(of names: [String]) -> Int {
        let shape = names.map { name in
            if let number = keyNumbers[name] { return number }
            keys.append(name)
            last.append(nil)
            keyNumbers[name] = keys.count - 1
            return keys.count - 1
        }
        if let number = shapeNumbers[shape] { return number }
        shapes.append(shape)
        shapeNumbers[shape] = shapes.count - 1
        return shapes.count - 1
    }

    /// 0 for the same value again; else one more than the bytes shared with it, then the digits that follow as half bytes
    /// after the number of bytes that they take, then the rest after its length.
    private mutating func append(_ value: [UInt8], after last: [UInt8]?) {
        if value == last {
            records.append(0)
            return
        }
        var shared = 0
        if let last { while shared < last.count, shared < value.count, last[shared] == value[shared] { shared += 1 } }
        records.append(packed: UInt64(shared) + 1)
        let rest = value[shared...]
        let digits = rest.prefix { halfByte($0) != nil }.count / 2
        records.append(packed: UInt64(digits))
        for index in 0..<digits {
            let first = halfByte(rest[shared + 2 * index]) ?? 0
            let second = halfByte(rest[shared + 2 * index + 1]) ?? 0
            records.append(first << 4 | second)
        }
        let text = rest.dropFirst(2 * digits)
        records.append(packed: UInt64(text.count))
        records.append(contentsOf: text)
    }
}

extension SourceTable: RandomAccessCollection {
    package var startIndex: Int { 0 }
    package var endIndex: Int { count }

    package subscript(number: Int) -> SourceDescriptor {
        precondition(indices.contains(number), "there is no source \(number) of \(count)")
        return records.withUnsafeBytes { bytes in
            var reader = RecordReader(self, bytes, at: Int(blocks[number / Self.blockCount]))
            reader.beginBlock()
            var shape: Int?
            for _ in 0...number % Self.blockCount { shape = reader.next() }
            // All were read once when they came from a file.
            return shape.map { descriptor($0, reader.values) } ?? SourceDescriptor([:])
        }
    }
}

extension SourceTable: Equatable {
    /// The same descriptors in the same order have the same records.
    package static func == (a: SourceTable, b: SourceTable) -> Bool {
        a.count == b.count && a.keys == b.keys && a.shapes == b.shapes && a.records == b.records
    }
}

// MARK: - In a file

extension SourceTable {
    /// The number of descriptors, the keys and the sets of keys.
    var heading: [UInt8] {
        var writer = FieldWriter()
        writer.write(UInt64(count))
        writer.write(UInt32(keys.count))
        for key in keys { writer.write(Array(key.utf8)) }
        writer.write(UInt32(shapes.count))
        for shape in shapes {
            writer.write(UInt32(shape.count))
            for key in shape { writer.write(UInt32(key)) }
        }
        return writer.bytes
    }

    /// - Throws: `corrupt` for anything that `append` cannot have made.
    init(heading: UnsafeRawBufferPointer, records: [UInt8], blocks: [UInt64]) throws(MCFSError) {
        var reader = FieldReader(heading)
        let count = try reader.number(UInt64.self)
        for _ in 0..<(try reader.number(UInt32.self)) {
            keys.append(String(decoding: try reader.field(), as: UTF8.self))
        }
        for _ in 0..<(try reader.number(UInt32.self)) {
            var shape: [Int] = []
            for _ in 0..<(try reader.number(UInt32.self)) { shape.append(Int(try reader.number(UInt32.self))) }
            guard shape.allSatisfy(keys.indices.contains) else { throw damaged("a source has a key without a name") }
            shapes.append(shape)
        }
        guard reader.isAtEnd, let count = Int(exactly: count), count <= records.count,
            blocks.count == (count + Self.blockCount - 1) / Self.blockCount
        else { throw damaged("its sources are not as many as it says") }
        self.count = count
        self.records = records
        self.blocks = blocks
        try check()
        keyNumbers = Dictionary(keys.enumerated().map { ($1, $0) }) { first, _ in first }
        shapeNumbers = Dictionary(shapes.enumerated().map { ($1, $0) }) { first, _ in first }
        last = Array(repeating: nil, count: keys.count)
    }

    private func check() throws(MCFSError) {
        let isWhole = records.withUnsafeBytes { bytes in
            var reader = RecordReader(self, bytes, at: 0)
            for number in 0..<count {
                if number % Self.blockCount == 0 {
                    guard blocks[number / Self.blockCount] == reader.position else { return false }
                    reader.beginBlock()
                }
                if reader.next() == nil { return false }
            }
            return reader.position == bytes.count
        }
        if !isWhole { throw damaged("its sources cannot be read") }
    }
}

/// Reads records one after the other.
private struct RecordReader {
    private let shapes: [[Int]]
    private let bytes: UnsafeRawBufferPointer
    private(set) var position: Int
    /// What each key had last.
    private(set) var values: [[UInt8]]

    init(_ table: SourceTable, _ bytes: UnsafeRawBufferPointer, at position: Int) {
        shapes = table.shapes
        self.bytes = bytes
        self.position = position
        values = Array(repeating: [], count: table.keys.count)
    }

    mutating func beginBlock() {
        for key in values.indices { values[key].removeAll(keepingCapacity: true) }
    }

    /// - Returns: the next record's set of keys; nil where the bytes are no record.
    mutating func next() -> Int? {
        guard let shape = number(), shape < shapes.count else { return nil }
        for key in shapes[shape] where !readValue(of: key) { return nil }
        return shape
    }

    private mutating func readValue(of key: Int) -> Bool {
        guard let head = number() else { return false }
        if head == 0 { return true }
        guard head - 1 <= values[key].count, let digits = number(), digits <= bytes.count - position else {
            return false
        }
        values[key].removeSubrange((head - 1)...)
        for byte in bytes[position..<position + digits] {
            values[key].append(digit(byte >> 4))
            values[key].append(digit(byte & 0xf))
        }
        position += digits
        guard let count = number(), count <= bytes.count - position else { return false }
        values[key].append(contentsOf: bytes[position..<position + count])
        position += count
        return true
    }

    private mutating func number() -> Int? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while position < bytes.count, shift < 63 {
            let byte = bytes[position]
            position += 1
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return Int(exactly: value) }
            shift += 7
        }
        return nil
    }
}

extension [UInt8] {
    /// Seven bits a byte, the lowest first; the highest bit says that more follow.
    fileprivate mutating func append(packed number: UInt64) {
        var number = number
        while number >= 0x80 {
            append(UInt8(truncatingIfNeeded: number) | 0x80)
            number >>= 7
        }
        append(UInt8(number))
    }
}

private func halfByte(_ digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
    default: nil
    }
}

private func digit(_ halfByte: UInt8) -> UInt8 {
    halfByte < 10 ? halfByte + UInt8(ascii: "0") : halfByte - 10 + UInt8(ascii: "a")
}
