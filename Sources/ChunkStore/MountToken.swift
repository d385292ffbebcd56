internal import CLinux
import Glibc
import MCFSCore

/// Names this mount of the file system that the cache is on: what was written under the same one, and not synced, is still
/// in the page cache, however its writer ended. It changes with each boot and each mount, so with all that may lose pages:
/// a power cut, a device that went away, a volume that was detached.
struct MountToken: Equatable, Sendable {
    static let hexCount = 32

    /// 32 hex digits.
    let text: String

    init(text: String) { self.text = text }

    /// As the kernel has it. Where it cannot tell one mount from the next (before Linux 6.8), one that nobody had before: then
    /// nothing is believed that was not synced.
    init(of directory: OwnedDescriptor) {
        var mount: UInt64 = 0
        if mcfs_mount_id(directory.rawValue, &mount) == 0, let boot = Self.boot() {
            text = Self.name(boot, String(mount))
        } else {
            text = Self.name("unknown", String(UInt64.random(in: .min ... .max)))
        }
    }

    private static func name(_ parts: String...) -> String {
        String(Digest.sha256(of: parts.joined(separator: "\n").utf8).hex.prefix(hexCount))
    }

    /// This boot, as the kernel names it.
    static func boot() -> String? {
        guard let file = try? OwnedDescriptor.open("/proc/sys/kernel/random/boot_id", O_RDONLY) else { return nil }
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = bytes.withUnsafeMutableBytes { (try? file.read(into: $0, at: 0)) ?? 0 }
        let text = String(decoding: bytes.prefix(count).prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
        return text.isEmpty ? nil : text
    }
}
