internal import MCFSCore

/// What mount(8) runs for the type `fuse.mcfs`: this executable under the name `mount.fuse.mcfs`, as
/// `mount.fuse.mcfs SOURCE TARGET [-sfnv] [-t TYPE] [-o OPTION[,OPTION…]]`.
///
/// SOURCE is a reference; more of them stand in options `reference=`. Where there is a `lowerdir=`, folders divided by
/// colons, the uppermost first, as overlay file systems have it, SOURCE is a name.
struct MountHelper {
    static let names = ["mount.fuse.mcfs", "mount.mcfs"]

    /// Of `mcfs`; nil: there is nothing to do.
    let arguments: [String]?

    /// Options that are for mount(8), or that hold for every mount.
    private static let ignored: Set<String> = [
        "defaults", "auto", "noauto", "user", "nouser", "users", "nofail", "_netdev", "owner", "group",
        "default_permissions", "exec", "async", "relatime", "workdir", "index", "xino", "metacopy",
        "redirect_dir", "volatile", "userxattr", "nfs_export", "atime", "diratime", "nostrictatime", "nolazytime",
        "norelatime", "silent", "loud",
    ]
    /// What mount(8) takes from the table of mounts when it remounts.
    private static let ofTable: Set<String> = [
        "user_id", "group_id", "rootmode", "fd", "max_read", "blksize", "subtype",
    ]
    /// Options of the kernel, which go along.
    private static let kernel: Set<String> = [
        "noexec", "noatime", "nodiratime", "strictatime", "lazytime", "sync", "dirsync",
    ]

    /// - Parameter arguments: without the program's name.
    /// - Parameter isRoot: who runs it.
    init(_ arguments: [String], isRoot: Bool = true) throws(MCFSError) {
        var places: [String] = []
        var options: [String] = []
        var isSloppy = false
        var isFake = false
        var isVerbose = false
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            switch argument {
            case "-o":
                guard let list = rest.popFirst() else { throw MCFSError(.usage, "-o needs options") }
                options += Self.split(list, ",")
            case "-t", "-N": _ = rest.popFirst()
            case let flags where flags.hasPrefix("-") && flags.count > 1:
                isSloppy = isSloppy || flags.contains("s")
                isFake = isFake || flags.contains("f")
                isVerbose = isVerbose || flags.contains("v")
            default: places.append(argument)
            }
        }
        guard places.count == 2 else {
            throw MCFSError(.usage, "usage: mount.fuse.mcfs REFERENCE MOUNTPOINT [-o OPTION,…]")
        }
        var made = isVerbose ? ["mount"] : ["mount", "--quiet"]
        var references: [String] = []
        var lower: [String]?
        var hasName = false
        var isReadOnly = false
        var isRemount = false
        // As in every file system that mount(8) knows: it says only what is to be kept from acting.
        var acting: Set<String> = isRoot ? ["suid", "dev"] : []
        var unknown: [String] = []
        for option in options {
            let parts = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            let (key, value) = (parts[0], parts.count > 1 ? parts[1] : "")
            switch key.replacing("_", with: "-") {
            case "": break
            // The last one counts.
            case "ro", "read-only": isReadOnly = true
            case "rw": isReadOnly = false
            case "remount": isRemount = true
            case "nosuid", "nodev": acting.remove(String(key.dropFirst(2)))
            case "suid", "dev": acting.insert(key)
            case "upperdir", "upper": made += ["--upper", value]
            case "lowerdir": lower = Self.split(value, ":")
            case "reference": references.append(value)
            case "fsname":
                made += ["--fsname", value]
                hasName = true
            case "allow-other": made.append("--allow-other")
            case "offline": made.append("--offline")
            case "slim": made.append("--slim")
            case "gpu", "rebase", "prefetch", "cache-dir", "cache-size", "read-deadline":
                made += ["--" + key.replacing("_", with: "-"), value]
            default:
                if Self.kernel.contains(key) {
                    made += ["--kernel-option", key]
                } else if !isSloppy && !Self.ignored.contains(key) && !key.hasPrefix("x-") && !key.hasPrefix("comment")
                {
                    unknown.append(key)
                }
            }
        }
        if let option = unknown.first(where: { !(isRemount && Self.ofTable.contains($0)) }) {
            throw MCFSError(.usage, "mcfs has no mount option '\(option)'")
        }
        for option in acting.sorted() { made += ["--kernel-option", option] }
        if isReadOnly { made.append("--read-only") }
        if isRemount {
            let cache = made.firstIndex(of: "--cache-dir").map { [made[$0], made[$0 + 1]] } ?? []
            let kernel = made.indices.filter { made[$0] == "--kernel-option" }.flatMap { [made[$0], made[$0 + 1]] }
            self.arguments =
                isFake
                ? nil
                : ["mount", "--remount"] + cache + kernel + (isReadOnly ? ["--read-only"] : []) + ["--", places[1]]
            return
        }
        if let lower {
            // The uppermost is named first there, and last here.
            references = lower.reversed() + references
            if !hasName { made += ["--fsname", places[0]] }
        } else {
            references.insert(places[0], at: 0)
        }
        self.arguments = isFake ? nil : made + ["--"] + references + [places[1]]
    }

    /// A backslash takes away the meaning of what follows it.
    private static func split(_ list: String, _ separator: Character) -> [String] {
        var parts = [""]
        var rest = list[...]
        while let character = rest.popFirst() {
            if character == "\\", let next = rest.popFirst() {
                parts[parts.count - 1].append(next)
            } else if character == separator {
                parts.append("")
            } else {
                parts[parts.count - 1].append(character)
            }
        }
        return parts
    }
}
