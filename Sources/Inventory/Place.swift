internal import Glibc
internal import MCFSCore

/// Where an entry of a folder is: the directory that it is in, reached without following a link below the folder.
struct Place {
    let parent: Folder
    let name: [UInt8]

    /// How the names of what is being removed begin: no cache has such, and what a killed prune leaves is told by them.
    static let prunedPrefix = Folder.ownPrefix + "pruned-"

    /// Whether it is the name of something that is, or was, being removed: the prefix and a process ID.
    static func isPruned(_ name: [UInt8]) -> Bool {
        let process = name.dropFirst(prunedPrefix.utf8.count)
        return name.starts(with: prunedPrefix.utf8) && !process.isEmpty
            && process.allSatisfy { (0x30...0x39).contains($0) }
    }

    init(_ parent: Folder, _ name: [UInt8]) { (self.parent, self.name) = (parent, name) }

    /// - Parameters:
    ///   - path: absolute; at or below `root`.
    init(_ path: [UInt8], below root: String) throws(Errno) {
        let folder = try Folder(at: root)
        var names = path.dropFirst(root == "/" ? 0 : root.utf8.count).split(separator: UInt8(ascii: "/"))
        if let last = names.popLast() {
            parent = try folder.folder(at: Array(names.joined(separator: [UInt8(ascii: "/")])))
            name = Array(last)
        } else {
            parent = try folder.folder(Array("..".utf8))
            name = Array(path.split(separator: UInt8(ascii: "/")).last ?? [])
        }
    }

    /// Takes the folder out of the way at once, then removes what is in it.
    ///
    /// - Returns: bytes of its files.
    func removeTree() throws(Errno) -> UInt64 {
        let away = Array("\(Self.prunedPrefix)\(getpid())".utf8)
        try parent.rename(name, to: away)
        return try parent.removeTree(away)
    }

    /// One that is young may be another process's that is at work.
    func removeLeftover(now: Timestamp) throws(Errno) {
        let status = try parent.status(of: name)
        guard Folder.Stamp(status).changed < now.nanosecondsSince1970 - Int64(Pruner.youngSeconds) * 1_000_000_000
        else {
            return
        }
        if status.st_mode & S_IFMT == S_IFDIR { _ = try parent.removeTree(name) } else { try parent.remove(name) }
    }
}

extension Folder {
    /// Puts new content in the place of a file: who opens it gets the old or the new, whole.
    func replace(_ item: Item, with content: [UInt8]) throws(Errno) {
        let temporary = Array("\(Place.prunedPrefix)\(getpid())".utf8)
        try? remove(temporary)
        do throws(Errno) {
            try write(temporary, content, like: item.status)
            try rename(temporary, to: item.name)
        } catch {
            try? remove(temporary)
            throw error
        }
    }
}
