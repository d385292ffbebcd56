internal import CLinux
internal import Glibc
internal import MCFSCore

/// Files of a cache directory that only occupy its disk: a start needs room for a few small files (the control socket, the log of the
/// catalog), and where the cache has filled the disk, only a daemon can make room. They go when a daemon starts and are made again once
/// it listens, as far as there is room then.
struct SpareRoom {
    static let name = "spare"
    /// One for each file that a start may have to make, and some more: where inodes are used up, each gives one back.
    static let fileCount = 8
    /// XFS wants hundreds of KiB free to make one file.
    static let fileBytes = 256 << 10

    private let path: String

    init(cacheDirectory: String) { path = cacheDirectory + "/" + Self.name }

    func give() {
        guard let folder else { return }
        for number in 0..<Self.fileCount { unlinkat(folder.rawValue, "\(number)", 0) }
    }

    /// As many as there is room for. No failure: the next start may find the room that this one found.
    func take() {
        mkdir(path, 0o700)
        guard let folder else { return }
        for number in 0..<Self.fileCount {
            guard let file = try? OwnedDescriptor.open("\(number)", at: folder, O_WRONLY | O_CREAT | O_EXCL) else {
                continue
            }
            if mcfs_fallocate(file.rawValue, 0, 0, off_t(Self.fileBytes)) == 0 { continue }
            unlinkat(folder.rawValue, "\(number)", 0)
            return
        }
    }

    /// nil where it is missing, or a link to somebody else's.
    private var folder: OwnedDescriptor? {
        try? OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    }
}
