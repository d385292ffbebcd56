import Glibc
import MCFSCore

/// What had reached the disk, as far as is known, when the machine last stopped.
///
/// While the machine runs, the page cache keeps what a killed daemon wrote: whatever it recorded is true. A power cut is
/// different: names and sizes may have reached the disk without the bytes. So `state` holds the boot id and the time
/// before which everything is known to be on disk (`syncfs` was done after it). After another boot, only files last
/// modified before that time are believed; of others, only the chunks in the map's durable half.
struct SyncPoint: Sendable {
    static let name = "state"
    private static let nameWhileWriting = "state.new"

    /// This boot, as the kernel names it.
    let boot: String
    /// Files modified later (seconds since 1970) than this are not believed; nil: everything is.
    let trustedUntil: Int64?

    /// Reads what the last user of the cache left.
    init(_ directory: CacheDirectory) {
        boot = Self.currentBoot()
        guard let file = try? directory.openIfThere(Self.name, O_RDONLY) else {
            // A new cache has no files; one whose state is gone has none that can be believed.
            trustedUntil = 0
            return
        }
        let fields = Self.readText(file).split(separator: "\n")
        if fields.count == 2, fields[0] == boot {
            trustedUntil = nil
        } else {
            trustedUntil = fields.count == 2 ? Int64(fields[1]) ?? 0 : 0
        }
    }

    func believes(modified seconds: Int64) -> Bool { trustedUntil.map { seconds < $0 } ?? true }

    /// Records that everything modified before `seconds` is on disk. The caller has synced the file system since then.
    func write(syncedUntil seconds: Int64, in directory: CacheDirectory) throws(Errno) {
        let file = try directory.open(Self.nameWhileWriting, O_WRONLY | O_CREAT | O_TRUNC)
        let text = Array("\(boot)\n\(seconds)\n".utf8)
        let result = text.withUnsafeBytes { bytes in Result { () throws(Errno) in try file.write(bytes, at: 0) } }
        try result.get()
        _ = try retryingOnInterrupt { fdatasync(file.rawValue) }
        try directory.rename(Self.nameWhileWriting, Self.name)
    }

    private static func currentBoot() -> String {
        guard let file = try? OwnedDescriptor.open("/proc/sys/kernel/random/boot_id", O_RDONLY) else {
            return "unknown"
        }
        return readText(file).trimmingNewline()
    }

    private static func readText(_ file: OwnedDescriptor) -> String {
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = bytes.withUnsafeMutableBytes { (try? file.read(into: $0, at: 0)) ?? 0 }
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }
}

extension String {
    fileprivate func trimmingNewline() -> String { String(prefix { $0 != "\n" }) }
}
