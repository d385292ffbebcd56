/// One header block as it stands in a tar: no extended record is applied.
///
/// Fields are at the offsets of POSIX.1-1988 `ustar`; GNU's own layout has no name prefix, star's has a shorter one.
struct TarHeader {
    static let byteCount = 512

    enum Defect: Error {
        case checksum
        case number(String)
    }

    var name: [UInt8]
    var linkName: [UInt8]
    var type: UInt8
    /// Bytes, as the field says; entries without data may have one too.
    var size: UInt64
    var permissions: UInt16
    var uid: UInt32
    var gid: UInt32
    /// Seconds since 1970.
    var modified: Int64
    var deviceMajor: UInt32
    var deviceMinor: UInt32

    /// - Parameter block: 512 bytes.
    init(_ block: [UInt8]) throws(Defect) {
        precondition(block.count == Self.byteCount, "a tar header has 512 bytes")
        guard Self.hasRightChecksum(block) else { throw .checksum }

        func number(_ what: String, _ offset: Int, _ count: Int) throws(Defect) -> Int64 {
            guard let value = TarNumber.parse(block[offset..<offset + count]) else { throw .number(what) }
            return value
        }
        func unsigned(_ what: String, _ offset: Int, _ count: Int) throws(Defect) -> UInt32 {
            let value = try number(what, offset, count)
            // Some writers store −2 ("nobody") as a negative number.
            guard let result = UInt32(exactly: value) ?? Int32(exactly: value).map({ UInt32(bitPattern: $0) }) else {
                throw .number(what)
            }
            return result
        }

        type = block[156]
        name = Self.text(block[0..<100])
        linkName = Self.text(block[157..<257])
        guard let size = UInt64(exactly: try number("size", 124, 12)) else { throw .number("size") }
        self.size = size
        permissions = UInt16(truncatingIfNeeded: try number("mode", 100, 8)) & 0o7777
        uid = try unsigned("user id", 108, 8)
        gid = try unsigned("group id", 116, 8)
        modified = try number("time", 136, 12)
        let isDevice = type == UInt8(ascii: "3") || type == UInt8(ascii: "4")
        deviceMajor = isDevice ? try unsigned("device number", 329, 8) : 0
        deviceMinor = isDevice ? try unsigned("device number", 337, 8) : 0

        let isPOSIX = block[257..<263].elementsEqual("ustar\0".utf8)
        let isStar = isPOSIX && block[508..<512].elementsEqual("tar\0".utf8)
        let prefix = isPOSIX ? Self.text(block[345..<(isStar ? 476 : 500)]) : []
        if !prefix.isEmpty { name = prefix + [UInt8(ascii: "/")] + name }
    }

    static func isZero(_ block: [UInt8]) -> Bool { block.allSatisfy { $0 == 0 } }

    /// The sum of all bytes, its own field taken as spaces; some old writers summed signed bytes.
    private static func hasRightChecksum(_ block: [UInt8]) -> Bool {
        guard let stored = TarNumber.parse(block[148..<156]) else { return false }
        var unsigned: Int64 = 8 * 32
        var signed: Int64 = 8 * 32
        for (index, byte) in block.enumerated() where !(148..<156).contains(index) {
            unsigned += Int64(byte)
            signed += Int64(Int8(bitPattern: byte))
        }
        return stored == unsigned || stored == signed
    }

    private static func text(_ field: ArraySlice<UInt8>) -> [UInt8] { Array(field.prefix { $0 != 0 }) }
}
