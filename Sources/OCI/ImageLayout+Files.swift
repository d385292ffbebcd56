internal import Glibc
internal import MCFSCore
internal import Transport

/// Whether something is at `path`.
package func pathExists(_ path: String) -> Bool { access(path, F_OK) == 0 }

/// The files of a layout, by their paths in it.
struct LayoutFiles: Sendable {
    private enum Place: Sendable {
        case directory(OwnedDescriptor)
        case tar(FileBlobSource, [String: ByteRange])
    }

    private let place: Place
    private let path: String

    /// - Throws: `notFound`, `localIO`; `corrupt` for a file that is no tar.
    init(path: String, deadline: Deadline) throws(MCFSError) {
        self.path = path
        let descriptor = try Self.open(path, flags: O_RDONLY | O_NONBLOCK)
        guard let descriptor else { throw MCFSError(.notFound, "there is no image layout at \(path)") }
        let status: stat
        do { status = try descriptor.status() } catch { throw MCFSError(localIO: "read \(path)", error) }
        if status.st_mode & S_IFMT == S_IFDIR {
            place = .directory(descriptor)
            return
        }
        let tar = try FileBlobSource(descriptor, name: path)
        var ranges: [String: ByteRange] = [:]
        for entry in try TarReader.entries(of: tar, size: tar.size, deadline: deadline) where entry.isFile {
            let (end, overflows) = entry.offset.addingReportingOverflow(entry.size)
            guard !overflows, end <= tar.size else {
                throw MCFSError(.corrupt, "\(path) ends within \(entry.path); copy it again")
            }
            ranges[entry.path.description] = ByteRange(entry.offset, end)
        }
        place = .tar(tar, ranges)
    }

    /// nil where there is no such file.
    func open(_ name: String, deadline: Deadline) throws(MCFSError) -> FileBlobSource? {
        switch place {
        case .directory(let directory):
            guard
                let descriptor = try Self.open(
                    name, at: directory, flags: O_RDONLY | O_NONBLOCK, for: "\(path)/\(name)")
            else { return nil }
            return try FileBlobSource(descriptor, name: "\(path)/\(name)")
        case .tar(let tar, let ranges):
            return ranges[name].map { tar.part($0, name: "\(name) in \(path)") }
        }
    }

    /// A small file as a whole; nil where there is none.
    func read(_ name: String, deadline: Deadline) throws(MCFSError) -> [UInt8]? {
        guard let source = try open(name, deadline: deadline) else { return nil }
        let sink = BoundedSink(bytesMax: ManifestDocument.bytesMax, what: "\(path)/\(name)")
        try source.read(ByteRange(0, source.size), deadline: deadline, into: sink)
        return sink.bytes
    }

    private static func open(
        _ name: String, at directory: OwnedDescriptor? = nil, flags: CInt, for path: String? = nil
    ) throws(MCFSError) -> OwnedDescriptor? {
        do {
            return try OwnedDescriptor.open(name, at: directory, flags)
        } catch {
            if error == .noEntry || error.rawValue == ENOTDIR { return nil }
            throw MCFSError(localIO: "open \(path ?? name)", error)
        }
    }
}

/// A file, or a part of one, as a source.
final class FileBlobSource: ByteSource {
    let name: String
    var isLocal: Bool { true }
    /// Bytes.
    let size: UInt64
    private let descriptor: OwnedDescriptor
    private let offset: UInt64
    /// Of the whole file when it was opened.
    private let version: Version

    private struct Version: Equatable {
        var size: Int
        var modified: [Int]
        var changed: [Int]
    }

    private static let pieceBytes = 1 << 18

    /// - Throws: `corrupt` for anything but a regular file.
    init(_ descriptor: OwnedDescriptor, name: String) throws(MCFSError) {
        let status: stat
        do { status = try descriptor.status() } catch { throw MCFSError(localIO: "read \(name)", error) }
        guard status.st_mode & S_IFMT == S_IFREG, status.st_size >= 0 else {
            throw MCFSError(.corrupt, "\(name) is not a regular file")
        }
        self.name = name
        self.descriptor = descriptor
        size = UInt64(status.st_size)
        offset = 0
        version = Self.version(status)
    }

    private init(_ base: FileBlobSource, _ range: ByteRange, name: String) {
        self.name = name
        descriptor = base.descriptor
        size = range.count
        offset = base.offset + range.lowerBound
        version = base.version
    }

    /// - Parameter range: within this source.
    func part(_ range: ByteRange, name: String) -> FileBlobSource { FileBlobSource(self, range, name: name) }

    var hasRandomAccess: Bool { true }

    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        guard range.upperBound <= size else {
            throw MCFSError(.corrupt, "\(name) has \(size) bytes, but bytes up to \(range.upperBound) are asked for")
        }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.pieceBytes, alignment: 16)
        defer { buffer.deallocate() }
        var position = range.lowerBound
        while position < range.upperBound {
            guard !deadline.hasPassed else {
                throw MCFSError(.timedOut, "\(name) could not be read in time", isTransient: true)
            }
            let piece = UnsafeMutableRawBufferPointer(
                rebasing: buffer.prefix(Int(min(UInt64(buffer.count), range.upperBound - position))))
            let count: Int
            let status: stat
            do throws(Errno) {
                count = try descriptor.read(into: piece, at: offset + position)
                status = try descriptor.status()
            } catch {
                throw MCFSError(localIO: "read \(name)", error)
            }
            guard count == piece.count, Self.version(status) == version else {
                throw MCFSError(.changed, "\(name) was changed after it was mounted; mount it again")
            }
            try sink.waitForRoom(until: deadline, name)
            try sink.write(UnsafeRawBufferPointer(piece))
            position += UInt64(count)
        }
    }

    private static func version(_ status: stat) -> Version {
        Version(
            size: status.st_size, modified: [status.st_mtim.tv_sec, status.st_mtim.tv_nsec],
            changed: [status.st_ctim.tv_sec, status.st_ctim.tv_nsec])
    }
}
