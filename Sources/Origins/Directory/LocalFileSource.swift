internal import Foundation
internal import Glibc
internal import MCFSCore

/// One local file as it was when its folder was walked.
final class LocalFileSource: ByteSource {
    private let root: FolderRoot
    private let file: Version

    /// What tells that a file is still the one that was walked.
    struct Version: Hashable, Sendable {
        /// Below the root.
        var path: TreePath
        /// Bytes.
        var size: UInt64
        var modified: Timestamp
        /// The change time, which nobody can set back.
        var changed: Timestamp
        /// Device of the file system: another one at the same place may use the same inodes.
        var fileSystem: UInt64
        var inode: UInt64
    }

    /// Bytes read at once.
    private static let pieceBytes = 1 << 20

    init(_ file: Version, in root: FolderRoot) {
        self.file = file
        self.root = root
    }

    var name: String { "\(root.path)/\(file.path)" }
    var hasRandomAccess: Bool { true }
    var isLocal: Bool { true }

    /// The file is compared before and after: one that is written in place meanwhile fails with `changed`.
    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        guard range.upperBound <= file.size else { throw MCFSError(.failed, "a read past the end of \(name)") }
        let descriptor: OwnedDescriptor
        do throws(Errno) { descriptor = try root.open(file.path) } catch {
            if error == .noEntry || error.rawValue == ELOOP || error.rawValue == ENOTDIR { throw changed }
            throw MCFSError(localIO: "open \(name)", error)
        }
        try check(descriptor)
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: Int(min(UInt64(Self.pieceBytes), range.count)), alignment: 4096)
        defer { buffer.deallocate() }
        var offset = range.lowerBound
        while offset < range.upperBound {
            if deadline.hasPassed { throw MCFSError(.timedOut, "reading \(name) took too long") }
            let wanted = Int(min(UInt64(buffer.count), range.upperBound - offset))
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted])
            let count: Int
            do throws(Errno) { count = try descriptor.read(into: piece, at: offset) } catch {
                throw MCFSError(localIO: "read \(name)", error)
            }
            guard count == wanted else { throw changed }
            try sink.waitForRoom(until: deadline, name)
            try sink.write(UnsafeRawBufferPointer(piece))
            offset += UInt64(count)
        }
        try check(descriptor)
    }

    private func check(_ descriptor: OwnedDescriptor) throws(MCFSError) {
        let status: FileStatus
        do throws(Errno) { status = FileStatus(try descriptor.status()) } catch {
            throw MCFSError(localIO: "look at \(name)", error)
        }
        guard status.type == S_IFREG, LocalFileSource.Version(file.path, status) == file else { throw changed }
    }

    private var changed: MCFSError {
        MCFSError(.changed, "\(name) has changed since the mount; mount its folder again")
    }
}

extension LocalFileSource.Version {
    init(_ path: TreePath, _ status: FileStatus) {
        self.init(
            path: path, size: status.size, modified: status.modified, changed: status.changed,
            fileSystem: status.fileSystem, inode: status.inode)
    }

    /// Identity of the content, in the folder at `root`.
    func identity(below root: String) -> BlobID {
        BlobID(
            origin: "file", root, pathText, String(size), Self.text(modified), Self.text(changed), String(fileSystem),
            String(inode))
    }

    /// The path as text that no other path has: UTF-8, or Base64 with a mark that no relative path begins with.
    var pathText: String {
        let bytes = path.bytes
        return String(validating: bytes, as: UTF8.self) ?? "/base64/" + Data(bytes).base64EncodedString()
    }

    private static func text(_ time: Timestamp) -> String { "\(time.seconds).\(time.nanoseconds)" }

    private static func time(_ text: String?) -> Timestamp? {
        let parts = text?.split(separator: ".") ?? []
        guard parts.count == 2, let seconds = Int64(parts[0]), let nanoseconds = UInt32(parts[1]) else { return nil }
        return Timestamp(seconds: seconds, nanoseconds: nanoseconds)
    }

    func descriptor() -> SourceDescriptor {
        SourceDescriptor([
            "kind": "file", "path": pathText, "size": String(size), "mtime": Self.text(modified),
            "ctime": Self.text(changed), "dev": String(fileSystem), "ino": String(inode),
        ])
    }

    /// - Throws: `corrupt` where it is none of ours.
    init(_ descriptor: SourceDescriptor) throws(MCFSError) {
        guard descriptor["kind"] == "file", let text = descriptor["path"],
            let size = descriptor["size"].flatMap({ OutsideNumber.byteCount($0) }),
            let inode = descriptor["ino"].flatMap({ UInt64($0) }),
            let fileSystem = descriptor["dev"].flatMap({ UInt64($0) }), let modified = Self.time(descriptor["mtime"]),
            let changed = Self.time(descriptor["ctime"])
        else {
            throw MCFSError(.corrupt, "the stored tree names a source that is no local file; mount the reference again")
        }
        var bytes = Array(text.utf8)
        if text.hasPrefix("/base64/") { bytes = Data(base64Encoded: String(text.dropFirst(8))).map(Array.init) ?? [] }
        self.init(
            path: try TreePath(bytes), size: size, modified: modified, changed: changed, fileSystem: fileSystem,
            inode: inode)
    }
}
