/// Descriptions of kernels that were saved together, in their order: whoever asks in that order compares a key with the
/// next one here, and asks the database once for many.
///
/// Each is the key and the description, after their lengths. Anything may be in `bytes`: what is no page has no descriptions.
struct KernelPage {
    /// Few enough that a page of which one is asked for is soon read.
    static let countMax = 256

    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    static func bytes(of descriptions: some Sequence<(key: [UInt8], description: [UInt8])>) -> [UInt8] {
        var writer = FieldWriter()
        for (key, description) in descriptions {
            writer.write(key)
            writer.write(description)
        }
        return writer.bytes
    }

    /// nil, and nothing changes, where another key comes next.
    mutating func next(_ key: [UInt8]) -> [UInt8]? {
        guard let found = field(at: position), let description = field(at: found.upperBound), has(key, at: found) else {
            return nil
        }
        position = description.upperBound
        return Array(bytes[description])
    }

    /// Wherever it is. The next is then the one behind it.
    mutating func find(_ key: [UInt8]) -> [UInt8]? {
        for start in [position, 0] {
            position = start
            while let found = field(at: position), let description = field(at: found.upperBound) {
                if has(key, at: found) { return next(key) }
                position = description.upperBound
            }
        }
        return nil
    }

    private func has(_ key: [UInt8], at place: Range<Int>) -> Bool {
        place.count == key.count
            && bytes.withUnsafeBytes { bytes in
                key.withUnsafeBytes { compare(UnsafeRawBufferPointer(rebasing: bytes[place]), $0) == 0 }
            }
    }

    /// Where the bytes of a field lie, without their length.
    private func field(at start: Int) -> Range<Int>? {
        let size = MemoryLayout<UInt32>.size
        guard bytes.count - start >= size else { return nil }
        let count = bytes.withUnsafeBytes { bytes in
            Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: start, as: UInt32.self)))
        }
        return bytes.count - start - size >= count ? start + size..<start + size + count : nil
    }
}
