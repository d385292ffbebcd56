/// What the first 64 bytes of an ELF file say of a GPU binary.
package struct ELFHeader: Hashable, Sendable {
    package let osABI: UInt8
    package let abiVersion: UInt8
    package let machine: UInt16
    package let flags: UInt32
    fileprivate let sectionOffset: UInt64
    fileprivate let sectionBytes: UInt16
    fileprivate let sectionCount: UInt16
    fileprivate let sectionNames: UInt16

    /// Bytes of a file that are enough for this.
    package static let byteCount = 64

    /// nil for anything but the beginning of a 64-bit little-endian ELF file.
    package init?(_ bytes: [UInt8]) {
        guard bytes.count >= Self.byteCount, bytes.starts(with: [0x7f, 0x45, 0x4c, 0x46, 2, 1]) else { return nil }
        osABI = bytes[7]
        abiVersion = bytes[8]
        machine = bytes.integer(at: 18)
        sectionOffset = bytes.integer(at: 40)
        flags = bytes.integer(at: 48)
        sectionBytes = bytes.integer(at: 58)
        sectionCount = bytes.integer(at: 60)
        sectionNames = bytes.integer(at: 62)
    }

    /// The content of a section of `file`; nil where the file has no such section, or not all of it.
    func section(_ name: String, in file: [UInt8]) -> ArraySlice<UInt8>? {
        guard sectionBytes >= 64, let names = section(Int(sectionNames), in: file) else { return nil }
        for index in 0..<Int(sectionCount) {
            guard let header = header(of: index, in: file) else { return nil }
            let rest = names.dropFirst(Int(file.integer(at: header) as UInt32))
            if rest.starts(with: name.utf8), rest.dropFirst(name.utf8.count).first == 0 {
                return section(index, in: file)
            }
        }
        return nil
    }

    private func section(_ index: Int, in file: [UInt8]) -> ArraySlice<UInt8>? {
        guard let header = header(of: index, in: file) else { return nil }
        let start: UInt64 = file.integer(at: header + 24)
        let size: UInt64 = file.integer(at: header + 32)
        guard start <= file.count, size <= UInt64(file.count) - start else { return nil }
        return file[Int(start)..<Int(start + size)]
    }

    private func header(of index: Int, in file: [UInt8]) -> Int? {
        guard index < Int(sectionCount), sectionOffset <= file.count else { return nil }
        let start = Int(sectionOffset) + index * Int(sectionBytes)
        return start + 64 <= file.count ? start : nil
    }
}

extension [UInt8] {
    /// Little-endian; the bytes must be there.
    fileprivate func integer<Value: FixedWidthInteger>(at offset: Int) -> Value {
        withUnsafeBytes { Value(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Value.self)) }
    }
}
