internal import Glibc
internal import MCFSCore

/// Small files of /proc and /sys, below a root that a test can replace. Nothing in them is trusted.
struct SystemFiles: Sendable {
    /// Longer files are refused, in bytes: sysfs gives a page at most.
    static let bytesMax = 64 << 10
    /// Further entries of a directory are not looked at.
    static let entriesMax = 4096

    let root: String

    func path(_ relative: String) -> String { root.hasSuffix("/") ? root + relative : "\(root)/\(relative)" }

    /// - Throws: EFBIG for a file that is too long, EINVAL for what is no regular file.
    func text(_ relative: String) throws(Errno) -> String {
        // O_NONBLOCK: a FIFO must not make the open wait.
        let file = try OwnedDescriptor.open(path(relative), O_RDONLY | O_NONBLOCK | O_NOCTTY)
        guard try file.status().st_mode & S_IFMT == S_IFREG else { throw Errno(rawValue: EINVAL) }
        var bytes = [UInt8](repeating: 0, count: Self.bytesMax + 1)
        let count = try bytes.withBytes { buffer throws(Errno) in try file.read(into: buffer, at: 0) }
        guard count <= Self.bytesMax else { throw Errno(rawValue: EFBIG) }
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    /// The one value of a file, without white space around it; nil where there is none.
    func value(_ relative: String) -> Substring? {
        guard let text = try? text(relative) else { return nil }
        let value = text[...].trimmed
        return value.isEmpty ? nil : value
    }

    /// Reads `0x10de`.
    func hexadecimalValue(_ relative: String) -> Int? {
        guard let value = value(relative), value.hasPrefix("0x") else { return nil }
        return Int(value.dropFirst(2), radix: 16)
    }

    /// The names in a directory; empty where it cannot be read.
    func entries(_ relative: String) -> [String] {
        guard let stream = opendir(path(relative)) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while names.count < Self.entriesMax, let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    func exists(_ relative: String) -> Bool { access(path(relative), F_OK) == 0 }
}
