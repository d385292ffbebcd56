import Glibc
import Synchronization
internal import CLinux
import MCFSCore

/// Which chunks of a partial content are there, on disk (docs/cache-format.md#maps): a header, then two bitmaps.
///
/// The first bitmap is written right after each chunk, so a killed daemon loses nothing; it is believed in the boot that
/// wrote it. The second holds what was synced since, and is what another boot believes (`LocalIndex` puts it in place of the first then). Either may lack chunks that are there;
/// neither ever has one that is not: a bit is set after the chunk was written (the second: after it was synced).
struct MapFile: Sendable {
    static let magic: [UInt8] = Array("mcfsmap1".utf8)
    /// magic 8 · size 8 · chunkSize 8 · checksum of these 8, little endian.
    static let headerBytes = 32

    private let file: OwnedDescriptor
    private let grid: ChunkGrid

    private var bitmapBytes: Int { (grid.chunkCount + 7) / 8 }

    static func create(_ name: String, in directory: CacheDirectory, grid: ChunkGrid) throws(Errno) -> MapFile {
        let file = try directory.open(name, O_RDWR | O_CREAT | O_TRUNC)
        let map = MapFile(file: file, grid: grid)
        let bytes = header(grid) + [UInt8](repeating: 0, count: map.bitmapBytes * 2)
        try map.write(bytes, at: 0)
        return map
    }

    /// - Parameter durableOnly: whether to read the second bitmap.
    /// - Returns: nil where there is no map that fits the grid.
    static func open(
        _ name: String, in directory: CacheDirectory, grid: ChunkGrid, durableOnly: Bool = false
    ) -> (MapFile, Bitmap)? {
        guard let file = try? directory.openIfThere(name, O_RDWR) else { return nil }
        let map = MapFile(file: file, grid: grid)
        var bytes = [UInt8](repeating: 0, count: headerBytes + map.bitmapBytes * 2)
        let count = bytes.withUnsafeMutableBytes { (try? file.read(into: $0, at: 0)) ?? 0 }
        guard count == bytes.count, Array(bytes[..<headerBytes]) == header(grid) else { return nil }
        let start = headerBytes + (durableOnly ? map.bitmapBytes : 0)
        guard let present = Bitmap(count: grid.chunkCount, bytes: bytes[start..<start + map.bitmapBytes]) else {
            return nil
        }
        return (map, present)
    }

    /// The size and chunk size that a map was made for; nil where it is none.
    static func grid(of name: String, in directory: CacheDirectory) -> ChunkGrid? {
        guard let file = try? directory.openIfThere(name, O_RDONLY) else { return nil }
        var bytes = [UInt8](repeating: 0, count: headerBytes)
        let count = bytes.withUnsafeMutableBytes { (try? file.read(into: $0, at: 0)) ?? 0 }
        guard count == headerBytes else { return nil }
        func field(_ offset: Int) -> UInt64 { bytes[offset..<offset + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) } }
        let (size, chunkSize) = (field(8), field(16))
        guard chunkSize > 0, size < 1 << 56, chunkSize < 1 << 40 else { return nil }
        let grid = ChunkGrid(size: size, chunkSize: chunkSize)
        return header(grid) == bytes ? grid : nil
    }

    /// Records the byte of the first bitmap that holds `chunk`. Called after the chunk was written, one call at a time.
    func record(_ chunk: Int, _ present: Bitmap) throws(Errno) {
        try write([present.byte(holding: chunk)], at: UInt64(Self.headerBytes + chunk >> 3))
    }

    /// Makes the first bitmap say `present`.
    func replace(_ present: Bitmap) throws(Errno) { try write(present.bytes, at: UInt64(Self.headerBytes)) }

    /// Records what was present before the file system was synced.
    func recordDurable(_ present: Bitmap) throws(Errno) {
        try write(present.bytes, at: UInt64(Self.headerBytes + bitmapBytes))
    }

    private func write(_ bytes: [UInt8], at offset: UInt64) throws(Errno) {
        let result = bytes.withUnsafeBytes { bytes in Result { () throws(Errno) in try file.write(bytes, at: offset) } }
        try result.get()
    }

    private static func header(_ grid: ChunkGrid) -> [UInt8] {
        func field(_ value: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) } }
        let fields = magic + field(grid.size) + field(grid.chunkSize)
        // FNV-1a: tells a damaged header from a whole one.
        let checksum = fields.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        return fields + field(checksum)
    }
}
