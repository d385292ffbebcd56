internal import Glibc
internal import MCFSCore
internal import Synchronization

/// A folder of files that are written whole, once, and whose modification time is when they were used last.
///
/// A file is written under a temporary name, synced and renamed: after a crash it is there whole or not at all.
final class RecordFolder: Sendable {
    private let directory: String
    private let suffix: String
    private let handle: OwnedDescriptor
    private static let temporaryPrefix = ".tmp-"
    private static let counter = Atomic<UInt64>(0)

    init(directory: String, suffix: String) throws(MCFSError) {
        // A link would lead to a folder of somebody else.
        var status = stat()
        if lstat(directory, &status) == 0, status.st_mode & S_IFMT != S_IFDIR { unlink(directory) }
        try makeDirectory(directory)
        self.directory = directory
        self.suffix = suffix
        do throws(Errno) { handle = try OwnedDescriptor.open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW) } catch {
            throw MCFSError(localIO: "open \(directory)", error)
        }
        removeLeftovers()
    }

    /// nil where there is none.
    ///
    /// - Parameters:
    ///   - countMax: how many bytes are wanted of it.
    ///   - isUse: whether the file counts as used now.
    func read(_ name: String, countMax: Int = .max, isUse: Bool = true) throws(MCFSError) -> [UInt8]? {
        do throws(Errno) {
            let file = try OwnedDescriptor.open(name + suffix, at: handle, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            let status = try file.status()
            guard status.st_mode & S_IFMT == S_IFREG, let size = Int(exactly: status.st_size), size >= 0 else {
                return nil
            }
            // `read` is typed and the initializer's closure is not: carry the error out by hand.
            var failure: Errno?
            let bytes = [UInt8](unsafeUninitializedCapacity: min(size, countMax)) { buffer, count in
                do throws(Errno) { count = try file.read(into: UnsafeMutableRawBufferPointer(buffer), at: 0) } catch {
                    failure = error
                    count = 0
                }
            }
            if let failure { throw failure }
            if isUse { touch(name) }
            return bytes
        } catch {
            if error == .noEntry { return nil }
            throw MCFSError(localIO: "read \(directory)/\(name)\(suffix)", error)
        }
    }

    func write(_ bytes: [UInt8], _ name: String) throws(MCFSError) {
        let number = Self.counter.wrappingAdd(1, ordering: .relaxed).newValue
        let temporary = "\(Self.temporaryPrefix)\(getpid())-\(number)"
        do throws(Errno) {
            let file = try OwnedDescriptor.open(temporary, at: handle, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
            let written = bytes.withUnsafeBytes { bytes in
                Result { () throws(Errno) in try file.write(bytes, at: 0) }
            }
            try written.get()
            _ = try retryingOnInterrupt { fsync(file.rawValue) }
            _ = try retryingOnInterrupt { renameat(handle.rawValue, temporary, handle.rawValue, name + suffix) }
            _ = try retryingOnInterrupt { fsync(handle.rawValue) }
        } catch {
            unlinkat(handle.rawValue, temporary, 0)
            var failure = MCFSError(localIO: "write \(directory)/\(name)\(suffix)", error)
            if failure.code == .noSpace { failure.message += "; free space or inodes on its disk" }
            throw failure
        }
        touch(name)
    }

    /// The names of all files.
    func list() throws(MCFSError) -> [String] {
        try names().filter { $0.hasSuffix(suffix) }.map { String($0.dropLast(suffix.count)) }
    }

    func remove(_ name: String) { unlinkat(handle.rawValue, name + suffix, 0) }

    /// Removes the least recently used beyond `countMax`, but none of `kept`.
    func prune(to countMax: Int, keeping kept: Set<String>) throws(MCFSError) {
        var files = try list().compactMap { name -> (name: String, used: timespec)? in
            var status = stat()
            guard fstatat(handle.rawValue, name + suffix, &status, AT_SYMLINK_NOFOLLOW) == 0 else { return nil }
            return (name, status.st_mtim)
        }
        guard files.count > countMax else { return }
        files.sort { ($0.used.tv_sec, $0.used.tv_nsec, $0.name) < ($1.used.tv_sec, $1.used.tv_nsec, $1.name) }
        var excess = files.count - countMax
        for file in files where excess > 0 && !kept.contains(file.name) {
            remove(file.name)
            excess -= 1
        }
    }

    /// The time is ours and not the kernel's, whose clock for files ticks in milliseconds.
    private func touch(_ name: String) {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let times = [now, now]
        // A use that cannot be noted is no reason to fail it.
        _ = utimensat(handle.rawValue, name + suffix, times, AT_SYMLINK_NOFOLLOW)
    }

    private func names() throws(MCFSError) -> [String] {
        guard let stream = opendir(directory) else { throw MCFSError(localIO: "list \(directory)", .current) }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                names.append(String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self))
            }
        }
        return names
    }

    /// What a crash left. Younger files may be another process's that is still writing.
    private func removeLeftovers() {
        guard let names = try? names() else { return }
        let limit = time(nil) - 3600
        for name in names where name.hasPrefix(Self.temporaryPrefix) {
            var status = stat()
            guard fstatat(handle.rawValue, name, &status, AT_SYMLINK_NOFOLLOW) == 0, status.st_mtim.tv_sec < limit
            else {
                continue
            }
            unlinkat(handle.rawValue, name, 0)
        }
    }
}

/// With its parents, 0700.
///
/// - Throws: `cannotCreate`.
func makeDirectory(_ path: String) throws(MCFSError) {
    var prefix = path.hasPrefix("/") ? "/" : ""
    var failure: Errno?
    for component in path.split(separator: "/") {
        prefix += component
        failure = mkdir(prefix, 0o700) == 0 || errno == EEXIST ? nil : .current
        prefix += "/"
    }
    var status = stat()
    if stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR { return }
    let why = failure.map { "\($0)" } ?? "something that is no directory is in the way"
    throw MCFSError(.cannotCreate, "cannot make the directory \(path): \(why); choose another --cache-dir")
}
