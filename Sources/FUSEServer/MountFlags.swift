/// Options of the kernel's as flags of mount(2): linux/mount.h.
enum MountFlags {
    private static let values: [String: UInt] = [
        "noexec": 1 << 3, "sync": 1 << 4, "dirsync": 1 << 7, "noatime": 1 << 10, "nodiratime": 1 << 11,
        "strictatime": 1 << 24, "lazytime": 1 << 25,
    ]
    private static let readOnly: UInt = 1 << 0
    /// Set-id bits and devices do not act unless root says so.
    private static let denied: [String: UInt] = ["suid": 1 << 1, "dev": 1 << 2]

    /// What libfuse 3.14 and fusermount3 do not take.
    static let unknownToLibrary: Set<String> = ["nodiratime", "strictatime", "lazytime"]

    static func value(readOnly: Bool, options: [String]) -> UInt {
        let start = denied.reduce(readOnly ? Self.readOnly : 0) { options.contains($1.key) ? $0 : $0 | $1.value }
        return options.reduce(start) { $0 | (values[$1] ?? 0) }
    }
}
