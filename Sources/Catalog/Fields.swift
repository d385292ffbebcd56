internal import MCFSCore

/// Packs numbers (little endian) and runs of bytes (after their 32-bit length) one after the other.
struct FieldWriter {
    var bytes: [UInt8] = []

    mutating func write<Number: FixedWidthInteger>(_ number: Number) {
        withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func write(_ field: [UInt8]) {
        write(UInt32(field.count))
        bytes.append(contentsOf: field)
    }
}

/// Reads what `FieldWriter` wrote. Borrows the bytes.
struct FieldReader {
    private let bytes: UnsafeRawBufferPointer
    private var position = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    var isAtEnd: Bool { position == bytes.count }

    mutating func number<Number: FixedWidthInteger>(_ type: Number.Type) throws(MCFSError) -> Number {
        let size = MemoryLayout<Number>.size
        guard bytes.count - position >= size else { throw damaged("it ends too early") }
        defer { position += size }
        return Number(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: Number.self))
    }

    mutating func raw(_ count: Int) throws(MCFSError) -> UnsafeRawBufferPointer {
        guard bytes.count - position >= count else { throw damaged("it ends too early") }
        defer { position += count }
        return UnsafeRawBufferPointer(rebasing: bytes[position..<position + count])
    }

    mutating func field() throws(MCFSError) -> [UInt8] { Array(try raw(Int(try number(UInt32.self)))) }
}
