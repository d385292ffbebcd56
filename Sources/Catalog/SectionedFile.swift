internal import Crypto
internal import MCFSCore

// The container of docs/cache-format.md#container: magic, SHA-256 of all that follows it, version, section table,
// sections. All numbers are little endian, every section starts at a multiple of 8.

private let checksumOffset = 8
private let checksummedOffset = 40
private let versionOffset = checksummedOffset
private let tableOffset = 48
private let tableRowBytes = 16

/// Makes a container. Sections are added in their order in the format.
struct SectionWriter {
    private var bytes: [UInt8]
    private let sectionCount: Int
    private var sectionsAdded = 0

    init(magic: StaticString, version: UInt32, sectionCount: Int, reservingBytes: Int) {
        self.sectionCount = sectionCount
        bytes = []
        bytes.reserveCapacity(reservingBytes + tableOffset + sectionCount * (tableRowBytes + 8))
        magic.withUTF8Buffer { bytes.append(contentsOf: $0) }
        precondition(bytes.count == checksumOffset, "a magic number has 8 bytes")
        bytes.append(contentsOf: repeatElement(0, count: checksummedOffset - checksumOffset))
        append(version)
        append(UInt32(sectionCount))
        bytes.append(contentsOf: repeatElement(0, count: sectionCount * tableRowBytes))
    }

    mutating func add<Number: FixedWidthInteger>(_ numbers: [Number]) {
        // Columns are kept as the file has them on every machine that Linux runs Swift on.
        precondition(Number(littleEndian: 1) == 1, "big-endian machines are not supported")
        numbers.withUnsafeBytes { addSection($0) }
    }

    private mutating func addSection(_ content: UnsafeRawBufferPointer) {
        precondition(sectionsAdded < sectionCount, "more sections than announced")
        let offset = bytes.count
        bytes.append(contentsOf: content)
        bytes.append(contentsOf: repeatElement(0, count: padding(bytes.count)))
        let row = tableOffset + sectionsAdded * tableRowBytes
        store(UInt64(offset), at: row)
        store(UInt64(content.count), at: row + 8)
        sectionsAdded += 1
    }

    consuming func finish() -> [UInt8] {
        precondition(sectionsAdded == sectionCount, "fewer sections than announced")
        let checksum = bytes.withUnsafeBytes { checksumOf(UnsafeRawBufferPointer(rebasing: $0[checksummedOffset...])) }
        bytes.replaceSubrange(checksumOffset..<checksummedOffset, with: Array(checksum))
        return bytes
    }

    private mutating func append(_ number: UInt32) {
        withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }

    private mutating func store(_ number: UInt64, at offset: Int) {
        bytes.withUnsafeMutableBytes {
            $0.storeBytes(of: number.littleEndian, toByteOffset: offset, as: UInt64.self)
        }
    }
}

/// The format version that a container says it has, of which `head` is the first 48 bytes; nil where it is none.
func formatVersion(of head: [UInt8], magic: StaticString) -> UInt32? {
    guard head.count >= tableOffset, magic.withUTF8Buffer({ head.starts(with: $0) }) else { return nil }
    return head.withUnsafeBytes { bytes in
        UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: versionOffset, as: UInt32.self))
    }
}

/// Reads a container whose checksum was right. Borrows the bytes.
struct SectionReader {
    private let bytes: UnsafeRawBufferPointer
    private let sections: [Range<Int>]

    /// - Throws: `corrupt` for anything but a whole, undamaged container of this kind and version.
    init(
        _ bytes: UnsafeRawBufferPointer, magic: StaticString, version: UInt32, sectionCount: Int
    ) throws(MCFSError) {
        let tableEnd = tableOffset + sectionCount * tableRowBytes
        let hasMagic = magic.withUTF8Buffer { bytes.starts(with: $0) }
        guard bytes.count >= tableEnd, hasMagic else { throw damaged("it has no \(magic) header") }
        let foundVersion = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: versionOffset, as: UInt32.self))
        guard foundVersion == version else {
            throw damaged("its format version is \(foundVersion), this mcfs reads version \(version)")
        }
        let checksum = checksumOf(UnsafeRawBufferPointer(rebasing: bytes[checksummedOffset...]))
        guard bytes[checksumOffset..<checksummedOffset].elementsEqual(checksum) else {
            throw damaged("its checksum is wrong")
        }
        let count = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: checksummedOffset + 4, as: UInt32.self))
        guard count == sectionCount else { throw damaged("it has \(count) sections instead of \(sectionCount)") }
        var ranges: [Range<Int>] = []
        var next = tableEnd
        for section in 0..<sectionCount {
            let row = tableOffset + section * tableRowBytes
            let start = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: row, as: UInt64.self))
            let length = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: row + 8, as: UInt64.self))
            guard start == UInt64(next), length <= UInt64(bytes.count - next) else {
                throw damaged("section \(section) is not where it should be")
            }
            let end = next + Int(length)
            ranges.append(next..<end)
            next = end + padding(end)
            guard next <= bytes.count else { throw damaged("section \(section) is not where it should be") }
        }
        guard next == bytes.count else { throw damaged("it is longer than its sections") }
        self.bytes = bytes
        sections = ranges
    }

    func bytes(of section: Int) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: bytes[sections[section]]) }

    /// A copy of a section as numbers. `count` nil: as many as there are.
    func numbers<Number: FixedWidthInteger>(
        _ type: Number.Type, of section: Int, count: Int? = nil
    ) throws(MCFSError) -> [Number] {
        let source = bytes(of: section)
        let size = MemoryLayout<Number>.size
        guard source.count % size == 0, count == nil || source.count / size == count else {
            throw damaged("section \(section) has the wrong length")
        }
        return [Number](unsafeUninitializedCapacity: source.count / size) { buffer, initialized in
            UnsafeMutableRawBufferPointer(buffer).copyMemory(from: source)
            initialized = source.count / size
        }
    }
}

func damaged(_ why: String) -> MCFSError { MCFSError(.corrupt, "the file is damaged: \(why)") }

private func padding(_ count: Int) -> Int { (8 - count % 8) % 8 }

private func checksumOf(_ bytes: UnsafeRawBufferPointer) -> SHA256.Digest {
    var hash = SHA256()
    hash.update(bufferPointer: bytes)
    return hash.finalize()
}
