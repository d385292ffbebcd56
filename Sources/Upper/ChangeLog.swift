internal import Glibc
internal import MCFSCore
internal import Synchronization

/// Remembers on the disk what was done to the tree below, in a file that only grows and is written anew at a mount when
/// most of it is history.
///
/// Each record is one write(2) at the end: after the daemon was killed it is there or not. Records are on their way to
/// the disk when `sync` returns.
final class ChangeLog: Sendable {
    static let name = Array("changes".utf8)
    private static let nameWhileWriting = Array("changes.new".utf8)
    private static let firstLine = Array("mcfs-upper 1\n".utf8)

    private struct State {
        var file: OwnedDescriptor?
        /// Records since the mount, and how many of them are on the disk.
        var appended: UInt64 = 0
        var synced: UInt64 = 0
        /// `done` could not be written: it goes before the next record.
        var owesDone = false
        /// Bytes, and how many are worth a look at what of them is history.
        var length: off_t = 0
        var longLength: off_t = 1 << 20
        /// There is something at the end that nothing may be written behind.
        var isBroken = false
    }

    private let state = Lock(State())
    private let syncing = Lock(())
    /// Opens the hidden place, makes it where it is not there.
    private let directory: @Sendable () throws(Errno) -> OwnedDescriptor

    init(directory: @escaping @Sendable () throws(Errno) -> OwnedDescriptor) { self.directory = directory }

    /// - Returns: the records, and whether nothing else is in the file: behind a line that was cut off or garbled nothing
    ///   may be appended.
    /// - Throws: `configuration` for a version that this program does not know.
    static func read(_ directory: OwnedDescriptor) throws(MCFSError) -> (records: [ChangeRecord], isWhole: Bool) {
        var bytes: [UInt8]
        do throws(Errno) {
            let file = try OwnedDescriptor.open(bytes: name, at: directory, O_RDONLY | O_NOFOLLOW)
            bytes = [UInt8](repeating: 0, count: Int(try file.status().st_size))
            let count = try bytes.withBytes { (buffer: UnsafeMutableRawBufferPointer) throws(Errno) in
                try file.read(into: buffer, at: 0)
            }
            bytes.removeLast(bytes.count - count)
        } catch {
            if error == .noEntry { return ([], true) }
            throw MCFSError(localIO: "read what the upper remembers", error)
        }
        // After a loss of power a file may be cut off, or hold nothing but its length.
        if firstLine.starts(with: bytes) && bytes.count < firstLine.count || bytes.allSatisfy({ $0 == 0 }) {
            return ([], bytes.isEmpty)
        }
        guard bytes.starts(with: firstLine) else {
            throw MCFSError(
                .configuration,
                "the upper was written by another version of mcfs; mount it with that version, or use another --upper")
        }
        var records: [ChangeRecord] = []
        var rest = bytes[firstLine.count...]
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")), let record = ChangeRecord(line: rest[..<end]) {
            records.append(record)
            rest = rest[(end + 1)...]
        }
        return (records, rest.isEmpty)
    }

    /// Writes the whole file anew, if the disk has room for it.
    func replace(with records: [ChangeRecord]) {
        guard let directory = try? directory() else { return }
        do throws(Errno) {
            let file = try OwnedDescriptor.open(
                bytes: Self.nameWhileWriting, at: directory, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW)
            let bytes = Self.firstLine + records.flatMap(\.line)
            try bytes.withBytes { (buffer: UnsafeRawBufferPointer) throws(Errno) in try file.write(buffer, at: 0) }
            _ = try retryingOnInterrupt { fdatasync(file.rawValue) }
            try renameName(Self.nameWhileWriting, in: directory, to: Self.name, in: directory)
            _ = try retryingOnInterrupt { fsync(directory.rawValue) }
            state.withLock { state in
                state = State()
                state.longLength = max(state.longLength, off_t(bytes.count) * 4)
            }
        } catch {
            state.withLock { $0.longLength *= 2 }
            // The old file says the same.
            _ = Self.nameWhileWriting.withTerminated { unlinkat(directory.rawValue, $0, 0) }
        }
    }

    /// - Returns: for `takeBack`.
    @discardableResult
    func append(_ records: [ChangeRecord]) throws(Errno) -> off_t {
        try state.withLock { state throws(Errno) in
            if state.isBroken { throw .io }
            let file: OwnedDescriptor
            if let known = state.file {
                file = known
            } else {
                file = try OwnedDescriptor.open(
                    bytes: Self.name, at: try directory(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW)
                state.file = file
            }
            let end = try file.status().st_size
            var bytes = end == 0 ? Self.firstLine : []
            if state.owesDone { bytes += ChangeRecord.done.line }
            bytes += records.flatMap(\.line)
            let count = try retryingOnInterrupt { write(file.rawValue, bytes, bytes.count) }
            guard count == bytes.count else {
                // A part of a record would end what can be believed of the file.
                guard (try? retryingOnInterrupt { ftruncate(file.rawValue, end) }) != nil else {
                    state.isBroken = true
                    throw .io
                }
                throw .noSpace
            }
            state.owesDone = false
            state.appended += 1
            state.length = end + off_t(bytes.count)
            return end
        }
    }

    /// What was appended, with all since then, did not come to pass. Takes no space, so it goes well on a full disk.
    func takeBack(to end: off_t) {
        state.withLock { state in
            guard let file = state.file else { return }
            if (try? retryingOnInterrupt { ftruncate(file.rawValue, end) }) == nil { state.isBroken = true }
        }
    }

    /// Whether writing it anew may make it much shorter.
    var isLong: Bool { state.withLock { $0.length > $0.longLength } }

    /// Before anything changes in the upper: the last rename, which is done, must not be taken for one that is not.
    func settle() throws(Errno) {
        if state.withLock({ $0.owesDone }) { try append([]) }
    }

    /// The upper has followed the last rename. Never fails: what cannot be written now is written with what comes next.
    func appendDone() {
        do throws(Errno) { try append([.done]) } catch { state.withLock { $0.owesDone = true } }
    }

    func sync() throws(Errno) {
        // Who comes second waits for the first: what it wants to have on the disk may be on its way.
        try syncing.withLock { _ throws(Errno) in
            let (file, count) = state.withLock { state in
                (state.synced < state.appended ? state.file : nil, state.appended)
            }
            guard let file else { return }
            _ = try retryingOnInterrupt { fdatasync(file.rawValue) }
            state.withLock { $0.synced = max($0.synced, count) }
        }
    }
}
