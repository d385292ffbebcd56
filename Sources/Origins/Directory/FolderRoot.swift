internal import Glibc
internal import MCFSCore
internal import Synchronization

/// A local folder, or one local file, that is presented.
///
/// The folder is held open from its first use on and everything is reached from there: a mount over the folder itself
/// does not lead the origin into that mount. Thread safe.
final class FolderRoot: Sendable {
    /// Absolute, without a `/` at its end.
    let path: String
    private let opened = Lock<Place?>(nil)

    private struct Place: Sendable {
        /// The folder; for a single file the folder that it lies in.
        var folder: OwnedDescriptor
        /// The single file's name.
        var file: [UInt8]?
    }

    init(_ path: String) { self.path = path }

    /// Name and status of the one file that is presented; nil for a folder.
    func singleFile() throws(MCFSError) -> (path: TreePath, status: FileStatus)? {
        let place = try place()
        guard let name = place.file else { return nil }
        let path = try TreePath(name)
        do throws(Errno) { return (path, try Self.status(of: path, in: place)) } catch { throw unreachable(error) }
    }

    /// - Throws: `notFound` where nothing is there.
    private func place() throws(MCFSError) -> Place {
        if let place = opened.withLock({ $0 }) { return place }
        let found: Place
        do throws(Errno) { found = try open() } catch { throw unreachable(error) }
        return opened.withLock { place in
            // Another thread may have been first.
            if place == nil { place = found }
            return place ?? found
        }
    }

    private func open() throws(Errno) -> Place {
        do throws(Errno) {
            return Place(folder: try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY), file: nil)
        } catch {
            guard error.rawValue == ENOTDIR else { throw error }
            let mark = path.utf8.lastIndex(of: UInt8(ascii: "/"))
            let name = mark.map { Array(path.utf8[path.utf8.index(after: $0)...]) } ?? Array(path.utf8)
            let parent = mark.map { String(path[..<$0]) } ?? ""
            let folder = try OwnedDescriptor.open(parent.isEmpty ? "/" : parent, O_RDONLY | O_DIRECTORY)
            let place = Place(folder: folder, file: name)
            guard let entry = try? TreePath(name), try Self.status(of: entry, in: place).type == S_IFREG else {
                throw Errno(rawValue: ENOTDIR)
            }
            return place
        }
    }

    private func unreachable(_ error: Errno) -> MCFSError {
        switch error.rawValue {
        case ENOENT: MCFSError(.notFound, "there is no folder \(path); check the path", cause: error)
        case ENOTDIR:
            MCFSError(.notFound, "\(path) is neither a folder nor a regular file; check the path", cause: error)
        case EACCES, EPERM:
            MCFSError(.unauthorized, "cannot open \(path): \(error); check its permissions", cause: error)
        default: MCFSError(localIO: "open \(path)", error)
        }
    }

    /// The names in a folder, without `.` and `..`, in no order.
    func names(in folder: TreePath) throws(Errno) -> [[UInt8]] {
        guard let place = try? place() else { throw .noEntry }
        let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW
        let descriptor = try Self.withPath(folder) { name throws(Errno) in
            try retryingOnInterrupt { openat(place.folder.rawValue, name, flags | O_CLOEXEC) }
        }
        guard let stream = fdopendir(descriptor) else {
            let error = Errno.current
            close(descriptor)
            throw error
        }
        defer { closedir(stream) }
        var names: [[UInt8]] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                let error = Errno.current
                if error.rawValue != 0 { throw error }
                return names
            }
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            if name.elementsEqual(".".utf8) || name.elementsEqual("..".utf8) { continue }
            names.append(name)
        }
    }

    func status(of path: TreePath) throws(Errno) -> FileStatus {
        guard let place = try? place() else { throw .noEntry }
        return try Self.status(of: path, in: place)
    }

    private static func status(of path: TreePath, in place: Place) throws(Errno) -> FileStatus {
        var result = stat()
        _ = try withPath(path) { name throws(Errno) in
            try retryingOnInterrupt { fstatat(place.folder.rawValue, name, &result, AT_SYMLINK_NOFOLLOW) }
        }
        return FileStatus(result)
    }

    func target(of path: TreePath) throws(Errno) -> [UInt8] {
        guard let place = try? place() else { throw .noEntry }
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = try Self.withPath(path) { name throws(Errno) in
            try retryingOnInterrupt { readlinkat(place.folder.rawValue, name, &buffer, buffer.count) }
        }
        return buffer.prefix(count).map { UInt8(bitPattern: $0) }
    }

    /// Opens a file for reading. Never follows a symlink in its last component and never waits for a fifo's writer.
    func open(_ path: TreePath) throws(Errno) -> OwnedDescriptor {
        guard let place = try? place() else { throw .noEntry }
        let flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
        return OwnedDescriptor(
            owning: try Self.withPath(path) { name throws(Errno) in
                try retryingOnInterrupt { openat(place.folder.rawValue, name, flags) }
            })
    }

    /// The path as C has it: names need not be UTF-8, so no `String` is in between. The root is `.`.
    private static func withPath<R>(
        _ path: TreePath, _ body: (UnsafePointer<CChar>) throws(Errno) -> R
    ) throws(Errno) -> R {
        let bytes = (path.isRoot ? Array(".".utf8) : path.bytes).map { CChar(bitPattern: $0) } + [0]
        let result: Result<R, Errno> = bytes.withUnsafeBufferPointer { buffer in
            guard let start = buffer.baseAddress else { return .failure(Errno(rawValue: EINVAL)) }
            do throws(Errno) { return .success(try body(start)) } catch { return .failure(error) }
        }
        return try result.get()
    }
}
