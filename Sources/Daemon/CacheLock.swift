internal import ControlAPI
internal import Glibc
package import MCFSCore

/// A cache directory that this process owns: nobody else serves it while this value lives.
///
/// `lock` is held with flock(2), which the kernel releases however the process ends; `VERSION` says which format the
/// directory has. All belong to the user of the process, and are for nobody else to write to.
package final class CacheLock: Sendable {
    static let version = "mcfs cache 1"

    package let path: String
    /// A file of the file system that the cache's files are on; none has to be made, which a full disk would not let.
    var sampleFile: OwnedDescriptor? { try? OwnedDescriptor.open(path + "/VERSION", O_RDWR) }
    private let lock: OwnedDescriptor

    /// Makes the directory where it is missing and takes its lock.
    ///
    /// - Throws: `busy` where another daemon holds it, with its process id; `cannotCreate`; `configuration` where
    ///   another version of mcfs wrote it.
    package init(_ path: String) throws(MCFSError) {
        self.path = path
        try Self.makeDirectories(path)
        try Self.checkOwner(path)
        do { lock = try OwnedDescriptor.open(path + "/lock", O_RDWR | O_CREAT | ownFile) } catch {
            if let refusal = Self.refusal(of: path + "/lock", error) { throw refusal }
            throw MCFSError(making: "the lock", inCacheDirectory: path, error)
        }
        try Self.checkOwner(of: lock, path + "/lock")
        guard Self.take(lock) else {
            let process = Self.mark(path).map { " (process \($0.process))" } ?? ""
            throw MCFSError(
                .busy,
                "another daemon\(process) serves the cache directory \(path); use it, end it, or give another --cache-dir"
            )
        }
        // What is there is from a daemon that did not come to its end. A disk that is full is no reason to stop.
        try? SmallFile.write(DaemonMark(process: getpid(), died: Self.mark(path)?.process).text, to: lock)
        try Self.checkVersion(path)
    }

    private static func mark(_ path: String) -> DaemonMark? {
        (try? SmallFile.read(path + "/lock", ownFile, bytesMax: 100)).flatMap { DaemonMark(bytes: $0) }
    }

    /// The daemon has come to its end: whoever asked it something can ask the next one.
    func giveBack() { ftruncate(lock.rawValue, 0) }

    // MARK: Whose it is

    /// - Throws: `configuration` where the directory is there, and another user owns it or can write to it.
    static func checkOwner(_ path: String) throws(MCFSError) {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { return }
        try check(status, path, "the cache directory", "give one of your own with --cache-dir, such as \(path)/mcfs")
    }

    private static func checkOwner(of file: OwnedDescriptor, _ path: String) throws(MCFSError) {
        guard let status = try? file.status() else { return }
        guard status.st_mode & S_IFMT == S_IFREG else { throw notPlain(path) }
        try check(status, path, "the file", "remove it")
    }

    /// Opening what is no file of ours failed.
    private static func refusal(of path: String, _ error: Errno) -> MCFSError? {
        [ELOOP, ENXIO, EISDIR].contains(error.rawValue) ? notPlain(path) : nil
    }

    private static func notPlain(_ path: String) -> MCFSError {
        MCFSError(.configuration, "\(path) is no plain file; remove it, or give another --cache-dir")
    }

    private static func check(_ status: stat, _ path: String, _ what: String, _ remedy: String) throws(MCFSError) {
        guard status.st_uid == geteuid() else {
            throw MCFSError(
                .configuration,
                "\(what) \(path) belongs to another user (uid \(status.st_uid)), who could change what is in it; \(remedy)"
            )
        }
        guard status.st_mode & (S_IWGRP | S_IWOTH) == 0 else {
            throw MCFSError(
                .configuration,
                "\(what) \(path) can be written to by other users; take that away (chmod go-w \(path)), or \(remedy)")
        }
    }

    /// Another daemon's is held for long; who only looks (`isHeld`) has it for an instant.
    private static func take(_ lock: OwnedDescriptor) -> Bool {
        for _ in 0..<10 {
            if flock(lock.rawValue, LOCK_EX | LOCK_NB) == 0 { return true }
            usleep(10_000)
        }
        return false
    }

    /// Whether a live daemon owns a cache directory, whether or not it answers.
    ///
    /// - Throws: where that cannot be told.
    static func isHeld(_ path: String) throws(MCFSError) -> Bool {
        do throws(Errno) {
            let lock = try OwnedDescriptor.open(path + "/lock", O_RDONLY | ownFile)
            return flock(lock.rawValue, LOCK_SH | LOCK_NB) != 0
        } catch {
            if error == .noEntry || error.rawValue == ENOTDIR { return false }
            var failure = MCFSError(localIO: "tell whether a daemon serves the cache directory \(path)", error)
            if error.rawValue == EACCES { failure.code = .unauthorized }
            throw failure
        }
    }

    private static func checkVersion(_ path: String) throws(MCFSError) {
        let file = path + "/VERSION"
        do {
            let found = String(decoding: try SmallFile.read(file, ownFile, bytesMax: 4096), as: UTF8.self)
            let line = found.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
            if line == version { return }
            // An empty file is what a crash between making and writing it leaves.
            if !line.isEmpty {
                throw MCFSError(
                    .configuration,
                    "the cache directory \(path) is of another version ('\(line.prefix(60))', this mcfs has '\(version)'); give another --cache-dir or remove it"
                )
            }
        } catch let error as MCFSError {
            throw error
        } catch {
            guard error as? Errno == .noEntry else {
                throw MCFSError(.configuration, "cannot read \(file): \(error)")
            }
        }
        do {
            try SmallFile.write(
                version + "\n", to: OwnedDescriptor.open(file, O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o644))
        } catch {
            throw MCFSError(making: "VERSION", inCacheDirectory: path, error)
        }
    }

    /// Mode 0700: what is cached may be private to the user whose credentials fetched it.
    static func makeDirectories(_ path: String) throws(MCFSError) {
        var made = ""
        for component in path.split(separator: "/") {
            made += "/" + component
            if mkdir(made, 0o700) == 0 || errno == EEXIST { continue }
            let error = Errno.current
            var status = stat()
            if stat(made, &status) == 0 { continue }
            throw MCFSError(making: "the folder", inCacheDirectory: path, error)
        }
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            throw MCFSError(.cannotCreate, "the cache directory \(path) is not a directory; give another --cache-dir")
        }
    }
}

extension MCFSError {
    /// What a daemon cannot do without is not there and cannot be made.
    init(making what: String, inCacheDirectory path: String, _ errno: Errno) {
        let remedy =
            switch errno {
            case .noSpace, .quota: "free space or inodes on its disk, or give another --cache-dir"
            case Errno(rawValue: EROFS): "its disk can only be read: make it writable, or give another --cache-dir"
            case .io: "look at its disk, or give another --cache-dir"
            default: "give another --cache-dir"
            }
        self.init(localIO: "make \(what) of the cache directory \(path)", errno)
        if code == .localIO, errno != .io { code = .cannotCreate }
        message += "; " + remedy
    }
}

/// How a file of the cache directory is opened: nobody's link is followed, nobody's pipe waited for.
private let ownFile = O_NOFOLLOW | O_NONBLOCK
