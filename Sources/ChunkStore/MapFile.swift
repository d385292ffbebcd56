import Glibc
import Synchronization
internal import CLinux
import MCFSCore

/// Which chunks of a partial content are there, on disk (docs/cache-format.md#maps): a header, then two bitmaps.
///
/// The first bitmap is written right after each chunk, so a killed daemon loses nothing; it is believed under the mount that
/// the header names. The second says what was synced since, and is believed by all. Either may lack chunks that are there;
/// neither ever has one that is not. A map speaks of one file, by its number and its birth: not of another under the same name,
/// made after a removal that a power cut undid for the map alone, or copied at another moment than the map.
struct MapFile: Sendable {
    static let magic: [UInt8] = Array("mcfsmap3".utf8)
    /// magic 8 · size 8 · chunk size 8 · token of the mount 32 · number of the file 8 · its birth 8 · checksum of these 8; numbers
    /// little endian.
    static let fieldBytes = 80
    /// Where the state of the hash begins: number of hashed chunks 8 · the state, padded with zeros · checksum of these 8.
    static let hashOffset = 80
    /// Where the first bitmap begins.
    static let headerBytes = 256

    private let file: OwnedDescriptor
    private let grid: ChunkGrid
    /// Which file it speaks of.
    private let content: [UInt64]

    private static func bitmapBytes(_ grid: ChunkGrid) -> Int { Bitmap.byteCount(grid.chunkCount) }

    /// What a map takes on disk, at most. A sparse content's has holes as the content has.
    static func diskBytes(_ grid: ChunkGrid, population: Int) -> UInt64 {
        if grid.chunkCount <= 1 { return 0 }
        let full = headerBytes + 2 * bitmapBytes(grid)
        let (sparse, overflow) = population.multipliedReportingOverflow(by: 2 * Bitmap.pageBytes)
        return Space.diskBytes(UInt64(overflow ? full : min(full, headerBytes + Bitmap.pageBytes * 4 + sparse)))
    }

    /// - Parameter content: the file that it will speak of.
    static func create(
        _ key: ContentKey, _ grid: ChunkGrid, of content: OwnedDescriptor, in directory: CacheDirectory
    ) throws(Errno) -> MapFile {
        let name = CacheDirectory.map(key)
        directory.remove(name)
        let map = MapFile(file: try directory.create(name), grid: grid, content: try identity(of: content))
        try map.write(map.header(directory.token), at: 0)
        let length = headerBytes + 2 * bitmapBytes(grid)
        _ = try retryingOnInterrupt { ftruncate(map.file.rawValue, off_t(length)) }
        return map
    }

    private static func identity(of file: OwnedDescriptor) throws(Errno) -> [UInt64] {
        var (number, birth): (UInt64, UInt64) = (0, 0)
        if mcfs_file_identity(file.rawValue, &number, &birth) != 0 { throw Errno.current }
        return [number, birth]
    }

    struct Found {
        var map: MapFile
        /// The file that it speaks of.
        var content: OwnedDescriptor
        var grid: ChunkGrid
        /// What is believed.
        var present: Bitmap
        /// Whether all of that is synced.
        var isSynced: Bool
        /// Another mount wrote it: `takeOver` before anything is recorded.
        var isForeign: Bool
        /// Of chunks that are all there.
        var hash: StoredFile.Hashing.Saved?
    }

    /// Opens the map of a content that is there in part, and its file. Changes nothing.
    ///
    /// - Returns: nil where there is no map that is whole, no file that it speaks of, or nothing in it.
    /// - Throws: where that cannot be told.
    static func open(_ key: ContentKey, in directory: CacheDirectory) throws(Errno) -> Found? {
        guard let (file, length) = try directory.openOurs(CacheDirectory.map(key), O_RDWR) else { return nil }
        var fields = [UInt8](repeating: 0, count: fieldBytes)
        guard (try? fields.withBytes { (bytes) throws(Errno) in try file.read(into: bytes, at: 0) }) == fieldBytes
        else {
            return nil
        }
        let chunkSize = number(fields[16..<24])
        guard number(fields[8..<16]) == key.size, chunkSize > 0, chunkSize < 1 << 40 else { return nil }
        let grid = ChunkGrid(size: key.size, chunkSize: chunkSize)
        let token = MountToken(text: String(decoding: fields[24..<24 + MountToken.hexCount], as: UTF8.self))
        guard let (content, size) = try directory.openOurs(CacheDirectory.partial(key), O_RDWR), size == key.size
        else { return nil }
        let map = MapFile(file: file, grid: grid, content: try identity(of: content))
        guard map.header(token) == fields, length == headerBytes + 2 * bitmapBytes(grid) else { return nil }
        let isForeign = token != directory.token
        let synced = try map.synced
        let recorded = isForeign ? synced : try map.bitmap(at: headerBytes)
        let present = try Self.stored(recorded, of: grid, in: content)
        if present.population == 0 { return nil }
        return Found(
            map: map, content: content, grid: grid, present: present,
            isSynced: recorded.population == synced.population,
            isForeign: isForeign, hash: map.hash(of: present))
    }

    /// Those of `chunks` that the file has something of everywhere. A hole was never written, whatever a damaged map says.
    private static func stored(
        _ chunks: Bitmap, of grid: ChunkGrid, in file: OwnedDescriptor
    ) throws(Errno) -> Bitmap {
        // What was found last, from a byte that is stored to the next hole.
        var extent = ByteRange(0, 0)
        return try chunks.filter { (chunk) throws(Errno) in
            let range = grid.range(of: chunk)
            if extent.contains(range) { return true }
            let data = lseek(file.rawValue, off_t(range.lowerBound), mcfs_seek_data)
            // ENXIO: nothing but a hole is left.
            if data < 0, errno != ENXIO { throw Errno.current }
            guard data == off_t(range.lowerBound) else { return false }
            let hole = lseek(file.rawValue, data, mcfs_seek_hole)
            if hole < 0 { throw Errno.current }
            extent = ByteRange(range.lowerBound, UInt64(hole))
            return extent.contains(range)
        }
    }

    /// What is known to be on the disk.
    var synced: Bitmap { get throws(Errno) { try bitmap(at: Self.headerBytes + Self.bitmapBytes(grid)) } }

    /// Makes a map that another mount wrote this one's: what was not synced is struck from its first bitmap. By the content's
    /// writer. The second stays as it is on the disk, whatever happens meanwhile.
    func takeOver(_ synced: Bitmap, in directory: CacheDirectory) throws(Errno) {
        let length = Self.bitmapBytes(grid)
        if mcfs_punch_hole(file.rawValue, off_t(Self.headerBytes), off_t(length)) != 0 {
            // Not every file system can.
            let zeros = [UInt8](repeating: 0, count: 64 << 10)
            for start in stride(from: 0, to: length, by: zeros.count) {
                try write(Array(zeros.prefix(length - start)), at: UInt64(Self.headerBytes + start))
            }
        }
        try write(synced, at: Self.headerBytes)
        // The bits before the token that vouches for them.
        try write(header(directory.token), at: 0)
    }

    private func bitmap(at start: Int) throws(Errno) -> Bitmap {
        var result = Bitmap(count: grid.chunkCount)
        let end = start + Self.bitmapBytes(grid)
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        var position = start
        while position < end {
            // Past holes: a content of many chunks has few of them.
            let data = lseek(file.rawValue, off_t(position), mcfs_seek_data)
            if data < 0 && errno == ENXIO { break }
            position = max(position, Int(data))
            if position >= end { break }
            let wanted = min(buffer.count, end - position)
            let count = try buffer.withBytes { (bytes) throws(Errno) in
                try file.read(into: UnsafeMutableRawBufferPointer(rebasing: bytes[..<wanted]), at: UInt64(position))
            }
            if count == 0 { break }
            result.insert(bytes: buffer[..<count], at: position - start)
            position += count
        }
        return result
    }

    /// Records the byte of the first bitmap that holds `chunk`. After the chunk was written, by the content's writer.
    func record(_ chunk: Int, byte: UInt8) throws(Errno) {
        try write([byte], at: UInt64(Self.headerBytes + chunk >> 3))
    }

    /// Records what was there before the content was synced. Lasts once `sync` was called.
    ///
    /// - Parameter hash: of chunks in `present`.
    func recordSynced(_ present: Bitmap, hash: StoredFile.Hashing.Saved?) throws(Errno) {
        try write(present, at: Self.headerBytes + Self.bitmapBytes(grid))
        if let hash { try write(Self.record(hash), at: UInt64(Self.hashOffset)) }
    }

    func sync() throws(Errno) { _ = try retryingOnInterrupt { fdatasync(file.rawValue) } }

    private static func record(_ hash: StoredFile.Hashing.Saved) -> [UInt8] {
        let padding = [UInt8](repeating: 0, count: max(0, ContentHasher.savedBytesMax - hash.state.count))
        return checked(field(UInt64(hash.count)) + hash.state + padding)
    }

    /// nil where there is none that fits what is there.
    private func hash(of present: Bitmap) -> StoredFile.Hashing.Saved? {
        var bytes = [UInt8](repeating: 0, count: 8 + ContentHasher.savedBytesMax + 8)
        let count = try? bytes.withBytes { (bytes) throws(Errno) in
            try file.read(into: bytes, at: UInt64(Self.hashOffset))
        }
        guard count == bytes.count, Self.checked(Array(bytes.dropLast(8))) == bytes,
            let hashed = Int(exactly: Self.number(bytes[..<8])), hashed > 0, hashed <= grid.chunkCount,
            present.containsAll(0..<hashed)
        else { return nil }
        return StoredFile.Hashing.Saved(count: hashed, state: Array(bytes[8..<8 + ContentHasher.savedBytesMax]))
    }

    private func write(_ bits: Bitmap, at start: Int) throws(Errno) {
        try bits.forEachRun { (offset, bytes) throws(Errno) in try write(bytes, at: UInt64(start + offset)) }
    }

    private func write(_ bytes: [UInt8], at offset: UInt64) throws(Errno) {
        try bytes.withBytes { (bytes) throws(Errno) in try file.write(bytes, at: offset) }
    }

    private func header(_ token: MountToken) -> [UInt8] {
        let fields = [grid.size, grid.chunkSize].flatMap(Self.field)
        return Self.checked(Self.magic + fields + Array(token.text.utf8) + content.flatMap(Self.field))
    }

    private static func field(_ value: UInt64) -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
    }

    private static func number(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// With a checksum, FNV-1a: tells damaged fields from whole ones.
    private static func checked(_ fields: [UInt8]) -> [UInt8] {
        fields + field(fields.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 })
    }
}
