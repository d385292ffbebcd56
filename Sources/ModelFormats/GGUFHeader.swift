internal import MCFSCore

/// The header of a GGUF file, versions 2 and 3: magic, version, number of tensors, number of metadata; the metadata as keys,
/// types and values; for each tensor its name, dimensions, type and offset. The data begins at the next multiple of the
/// alignment, from where offsets count; a tensor reaches to the next one.
///
/// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Big-endian files, which look like an unknown version, have no layout.
enum GGUFHeader {
    static func read(_ prefix: UnsafeRawBufferPointer, fileSize: UInt64) -> ModelFormat.Reading {
        var cursor = Cursor(prefix)
        do throws(Stop) {
            return try layout(&cursor, fileSize: fileSize)
        } catch {
            switch error {
            case .wrong: return .unknown
            // Arrays of a tokenizer are long: ask for much more at once.
            case .short: return .needs(max(UInt64(prefix.count) * 4, 64 << 10))
            }
        }
    }

    private enum Stop: Error { case wrong, short }

    private static func layout(_ cursor: inout Cursor, fileSize: UInt64) throws(Stop) -> ModelFormat.Reading {
        // "GGUF".
        guard try cursor.integer(UInt32.self) == 0x4655_4747 else { throw .wrong }
        guard (2...3).contains(try cursor.integer(UInt32.self)) else { throw .wrong }
        let tensorCount = try cursor.integer(UInt64.self)
        let metadataCount = try cursor.integer(UInt64.self)
        guard tensorCount <= TensorLayout.tensorsMax, metadataCount <= 1 << 20 else { throw .wrong }
        var alignment: UInt64 = 32
        for _ in 0..<metadataCount {
            let isAlignment = try cursor.string { key in "general.alignment".utf8.elementsEqual(key) }
            let type = try cursor.integer(UInt32.self)
            if isAlignment, type == 4 {
                alignment = UInt64(try cursor.integer(UInt32.self))
            } else {
                try skip(type, &cursor)
            }
        }
        guard alignment > 0, alignment & (alignment - 1) == 0 else { throw .wrong }
        var offsets: [UInt64] = []
        for _ in 0..<tensorCount {
            _ = try cursor.string { _ in }
            let dimensions = try cursor.integer(UInt32.self)
            guard dimensions <= 16 else { throw .wrong }
            try cursor.skip(UInt64(dimensions) * 8 + 4)
            offsets.append(try cursor.integer(UInt64.self))
        }
        let dataStart = (UInt64(cursor.position) + alignment - 1) & ~(alignment - 1)
        guard dataStart <= fileSize else { throw .wrong }
        offsets.sort()
        var ranges: [ByteRange] = []
        for (index, offset) in offsets.enumerated() {
            let end = index + 1 < offsets.count ? offsets[index + 1] : fileSize - dataStart
            guard offset <= end, end <= fileSize - dataStart else { throw .wrong }
            ranges.append(ByteRange(dataStart + offset, dataStart + end))
        }
        return TensorLayout(ranges, fileSize: fileSize).map { .layout($0) } ?? .unknown
    }

    private static let stringType: UInt32 = 8
    private static let arrayType: UInt32 = 9

    /// Bytes of one value, by its type: 8 and 16-bit integers, 32-bit numbers, a truth value, 64-bit numbers.
    private static func fixedBytes(_ type: UInt32) -> UInt64? {
        switch type {
        case 0, 1, 7: 1
        case 2, 3: 2
        case 4, 5, 6: 4
        case 10, 11, 12: 8
        default: nil
        }
    }

    private static func skip(_ type: UInt32, _ cursor: inout Cursor, depth: Int = 0) throws(Stop) {
        if let count = fixedBytes(type) { return try cursor.skip(count) }
        if type == stringType { return _ = try cursor.string { _ in } }
        guard type == arrayType, depth < 4 else { throw .wrong }
        let elementType = try cursor.integer(UInt32.self)
        let count = try cursor.integer(UInt64.self)
        if let bytes = fixedBytes(elementType) {
            let (sum, overflow) = count.multipliedReportingOverflow(by: bytes)
            guard !overflow else { throw .wrong }
            return try cursor.skip(sum)
        }
        // Each takes at least a byte, so a count that lies ends with the bytes that there are.
        for _ in 0..<count { try skip(elementType, &cursor, depth: depth + 1) }
    }

    private struct Cursor {
        private let bytes: UnsafeRawBufferPointer
        private(set) var position = 0

        init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

        mutating func skip(_ count: UInt64) throws(Stop) {
            guard count <= ModelFormat.headerBytesMax else { throw .wrong }
            guard count <= UInt64(bytes.count - position) else { throw .short }
            position += Int(count)
        }

        mutating func integer<Value: FixedWidthInteger>(_: Value.Type) throws(Stop) -> Value {
            let start = position
            try skip(UInt64(MemoryLayout<Value>.size))
            return Value(littleEndian: bytes.loadUnaligned(fromByteOffset: start, as: Value.self))
        }

        mutating func string<Result>(_ body: (UnsafeRawBufferPointer) -> Result) throws(Stop) -> Result {
            let count = try integer(UInt64.self)
            let start = position
            try skip(count)
            return body(UnsafeRawBufferPointer(rebasing: bytes[start..<position]))
        }
    }
}
