internal import Glibc
internal import MCFSCore

/// Files of a few lines.
enum SmallFile {
    /// - Parameter flags: of open(2), besides.
    /// - Throws: also where the file is larger than `bytesMax` (EFBIG).
    static func read(_ path: String, _ flags: CInt = 0, bytesMax: Int) throws(Errno) -> [UInt8] {
        let file = try OwnedDescriptor.open(path, O_RDONLY | flags)
        var bytes: [UInt8] = []
        // /proc has files whose size is 0: read until the end, in order.
        while true {
            let outcome: Result<[UInt8], Errno> = withUnsafeTemporaryAllocation(byteCount: 65536, alignment: 8) {
                buffer in
                do throws(Errno) {
                    let count = try retryingOnInterrupt { Glibc.read(file.rawValue, buffer.baseAddress, buffer.count) }
                    return .success(Array(buffer.prefix(count)))
                } catch { return .failure(error) }
            }
            let piece = try outcome.get()
            if piece.isEmpty { return bytes }
            bytes += piece
            if bytes.count > bytesMax { throw Errno(rawValue: EFBIG) }
        }
    }

    /// Replaces the file's content; short texts only.
    static func write(_ text: String, to file: OwnedDescriptor) throws(Errno) {
        let bytes = Array(text.utf8)
        try bytes.withBytes { (buffer) throws(Errno) in try file.write(buffer, at: 0) }
        // Last: a block that the file has is not given up and asked for again.
        _ = try retryingOnInterrupt { ftruncate(file.rawValue, off_t(bytes.count)) }
    }
}
