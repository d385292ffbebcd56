internal import CLinux
internal import Glibc
internal import MCFSCore
internal import Synchronization

/// The hidden directory at the upper's root with the log in it, which remembers what was done to the tree below, and what
/// the log says. The log is written ahead:
///
/// 1. The records of a change are appended.
/// 2. Where the upper's disk is to lose or to move a name, they are on the disk before it does.
/// 3. They count (`remembered`) when the disk has followed; if it refuses, they are taken back.
///
/// Records that the disk need not follow go to the disk with the next change of its names: `settle`. Appending makes the
/// file longer, so to bring it to the disk is to commit the journal of the disk's file system: what the log says and what
/// the disk has are, after a loss of power, as they were at one moment.
///
/// There is room on the disk for some records beyond the end of the file, so that who deletes on a full disk can.
///
/// Threads: `alone` is held by who appends, until the records count or are taken back, and by who moves folders. Locks
/// are taken in this order: `alone`, `syncing`, `state`.
final class ChangeLog: Sendable {
    private struct State {
        /// `.mcfs-upper`, and `work` in it.
        var place: OwnedDescriptor?
        var work: OwnedDescriptor?
        var file: OwnedDescriptor?
        /// Behind the last record.
        var end: off_t = 0
        /// Up to where the disk has room for it, beyond its end; nil where the disk gives no such room.
        var room: off_t? = 0
        /// Appends since the mount, and how many of them are on the disk. Both only grow, whatever becomes of the file.
        var appended: UInt64 = 0
        var durable: UInt64 = 0
        /// The file has its name on the disk for good.
        var isNamed = true
        /// What is in the file is not known: the disk refused to write it down, or to cut it. It is written anew before
        /// anything else.
        var isSuspect = false
        /// The last rename is done, and nothing says so yet: `done` goes before the next record.
        var owesDone = false
        /// How many bytes are worth a look at what of them is history.
        var longLength = ChangeLog.longLengthMin
        var isClosed = false

        /// Nothing needs to go to the disk; a log without a record of this mount says nothing new.
        var isDurable: Bool { !isSuspect && durable == appended && (isNamed || appended == 0) }
    }

    static let name = Array("changes".utf8)
    /// Of the file while it is written anew: beside the use of it, and while nobody uses it.
    private static let nameWhileCompacting = Array("changes.new".utf8)
    private static let nameWhileRecovering = Array("changes.recovered".utf8)
    static let workName = Array("work".utf8)
    private static let longLengthMin: off_t = 1 << 20
    /// Bytes that are asked for at a time, and those that only deletions and renames may use.
    private static let roomStep: off_t = 64 << 10
    private static let roomForDeletions = 16 << 10
    /// FALLOC_FL_KEEP_SIZE.
    private static let keepSize: CInt = 1

    let remembered = Remembered()
    let alone = Lock(())
    private let syncing = Lock(())
    private let state = Lock(State())
    private let told = Lock<[String]>([])
    private let compacting = Lock<StartedThread?>(nil)
    private let root: OwnedDescriptor

    /// Reads what an earlier mount left, finishes the rename it was at, and makes room for what will be remembered.
    ///
    /// - Parameter root: of the upper.
    /// - Throws: `configuration` for a version that this program does not know.
    init(root: OwnedDescriptor) throws(MCFSError) {
        self.root = root
        try restore()
        // On a full disk there is none, and whoever deletes is told so.
        try? alone.withLock { _ throws(Errno) in try state.withLock { state throws(Errno) in _ = try open(&state) } }
    }

    /// What the user should know of the log.
    var problems: [String] { told.withLock { $0 } }

    // MARK: Writing

    /// Under `alone`: the records of one change, and what follows them on the disk.
    ///
    /// - Parameters:
    ///   - isDeletion: it may use the room that is kept for deletions and renames.
    ///   - disk: nil where nothing follows.
    func perform(
        _ records: [ChangeRecord], isDeletion: Bool = true, _ disk: (() throws(Errno) -> Void)? = nil
    ) throws(Errno) {
        try recover()
        guard !records.isEmpty else {
            try makeDurable()
            try disk?()
            return
        }
        let begin = try append(records, isDeletion: isDeletion)
        guard let disk else { return }
        do throws(Errno) {
            try makeDurable()
            try disk()
        } catch {
            takeBack(to: begin)
            throw error
        }
    }

    /// Before the disk's names change: what is remembered goes there first.
    func settle() throws(Errno) {
        if state.withLock({ $0.isSuspect || $0.owesDone }) {
            try alone.withLock { _ throws(Errno) in
                try recover()
                // Else what was done would be taken for what is to be done.
                if state.withLock({ $0.owesDone }) { _ = try append([], isDeletion: true) }
            }
        }
        try makeDurable()
    }

    /// Under `alone`: the disk has followed the last rename. Never fails: what cannot be written now is written with what
    /// comes next.
    func appendDone() {
        do throws(Errno) { _ = try append([.done], isDeletion: true) } catch { state.withLock { $0.owesDone = true } }
    }

    /// - Returns: where the records begin.
    private func append(_ records: [ChangeRecord], isDeletion: Bool) throws(Errno) -> off_t {
        try state.withLock { state throws(Errno) in
            if state.isClosed { throw .notConnected }
            if state.isSuspect { throw .io }
            let file = try open(&state)
            // What is taken back is not what was owed before.
            let owed = state.owesDone ? ChangeRecord.done.line : []
            let bytes = owed + records.flatMap(\.line)
            let begin = state.end
            try Self.makeRoom(&state, file, for: bytes.count, isDeletion: isDeletion)
            do throws(Errno) {
                try bytes.withBytes { (buffer: UnsafeRawBufferPointer) throws(Errno) in
                    try file.write(buffer, at: UInt64(begin))
                }
            } catch {
                Self.cut(&state, file, to: begin)
                throw error
            }
            state.end = begin + off_t(bytes.count)
            state.owesDone = false
            state.appended += 1
            return begin + off_t(owed.count)
        }
    }

    /// What was appended did not come to pass. Takes no space, so it goes well on a full disk.
    private func takeBack(to begin: off_t) {
        state.withLock { state in
            guard let file = state.file else { return }
            // Also where the disk has refused it: until it is written anew, a mount may read it.
            Self.cut(&state, file, to: begin)
            // The disk may have what was cut off.
            state.appended += 1
        }
        try? makeDurable()
    }

    private static func cut(_ state: inout State, _ file: OwnedDescriptor, to end: off_t) {
        if (try? retryingOnInterrupt { ftruncate(file.rawValue, end) }) == nil { state.isSuspect = true }
        state.end = end
        // It went with the rest.
        if state.room != nil { state.room = end }
        try? makeRoom(&state, file, for: 0, isDeletion: true)
    }

    private static func makeRoom(
        _ state: inout State, _ file: OwnedDescriptor, for count: Int, isDeletion: Bool
    ) throws(Errno) {
        guard let room = state.room else { return }
        let wanted = state.end + off_t(count) + roomStep / 2
        if room >= wanted { return }
        do throws(Errno) {
            let length = wanted + roomStep / 2 - state.end
            _ = try retryingOnInterrupt { mcfs_fallocate(file.rawValue, Self.keepSize, state.end, length) }
            state.room = state.end + length
        } catch {
            guard error == .noSpace || error == .quota else { return state.room = nil }
            if !isDeletion && room < state.end + off_t(count + roomForDeletions) { throw error }
        }
    }

    // MARK: The disk

    /// What was appended is on the disk when this returns. Who comes second waits for the first, and finds its own there, too.
    private func makeDurable() throws(Errno) {
        if state.withLock({ $0.isDurable }) { return }
        try syncing.withLock { _ throws(Errno) in
            let (file, place, appended, isNamed) = try state.withLock { state throws(Errno) in
                if state.isSuspect { throw Errno.io }
                return (state.durable < state.appended ? state.file : nil, state.place, state.appended, state.isNamed)
            }
            do throws(Errno) {
                if let file { _ = try retryingOnInterrupt { fdatasync(file.rawValue) } }
            } catch {
                // The kernel forgets what it could not write, and says so only once.
                state.withLock { $0.isSuspect = true }
                throw error
            }
            if !isNamed {
                if let place { try Self.sync(directory: place) }
                try Self.sync(directory: root)
            }
            state.withLock { state in
                state.durable = max(state.durable, appended)
                state.isNamed = state.isNamed || !isNamed
            }
        }
    }

    private static func sync(directory: OwnedDescriptor) throws(Errno) {
        do throws(Errno) { _ = try retryingOnInterrupt { fsync(directory.rawValue) } } catch {
            // Some file systems have no such thing: their directories are always on the disk.
            guard error.rawValue == EINVAL || error.rawValue == EOPNOTSUPP else { throw error }
        }
    }

    /// Under `alone`, with nothing appended that does not count: writes the file anew where what is in it is not known.
    private func recover() throws(Errno) {
        guard state.withLock({ $0.isSuspect }) else { return }
        let file = try write(remembered.records, to: Self.nameWhileRecovering)
        try syncing.withLock { _ throws(Errno) in
            try state.withLock { state throws(Errno) in try replace(&state, with: file, Self.nameWhileRecovering) }
        }
    }

    /// Whether writing it anew may make it much shorter.
    private var isLong: Bool { state.withLock { $0.end > $0.longLength && !$0.isClosed } }

    /// Begins to write the file anew, on a thread of its own, where most of it is history.
    func compactIfLong() {
        guard isLong else { return }
        compacting.withLock { thread in
            // Doubled by one that fails, and set by one that goes well, so the next one is a while away.
            guard isLong, thread?.hasEnded != false else { return }
            thread = try? startThread("mcfs-log") { [weak self] in self?.compact() }
        }
    }

    /// What is appended while the file is being written is put behind it. No lock is held meanwhile.
    private func compact() {
        let (records, old, end) = alone.withLock { _ in
            let (old, end) = state.withLock { ($0.file, $0.end) }
            return (remembered.records, old, end)
        }
        do throws(Errno) {
            let anew = try write(records, to: Self.nameWhileCompacting)
            // While no record waits for the disk to follow: it may have to be cut off again.
            try alone.withLock { _ throws(Errno) in
                try syncing.withLock { _ throws(Errno) in
                    let (now, endNow) = state.withLock { ($0.isClosed || $0.isSuspect ? nil : $0.file, $0.end) }
                    guard let old, old === now else { throw .io }
                    try Self.copy(old, from: end, to: endNow, behind: anew)
                    try state.withLock { state throws(Errno) in
                        if state.isClosed { throw .io }
                        try replace(&state, with: anew, Self.nameWhileCompacting)
                    }
                }
            }
        } catch {
            // The old file says the same.
            state.withLock { state in
                state.longLength = max(state.longLength, state.end) * 2
                if let place = state.place { Self.unlink(Self.nameWhileCompacting, in: place) }
            }
        }
    }

    private static func copy(
        _ old: OwnedDescriptor, from begin: off_t, to end: off_t, behind anew: OwnedDescriptor
    ) throws(Errno) {
        guard end > begin else { return }
        var rest = [UInt8](repeating: 0, count: Int(end - begin))
        let count = try rest.withBytes { (buffer: UnsafeMutableRawBufferPointer) throws(Errno) in
            try old.read(into: buffer, at: UInt64(begin))
        }
        guard count == rest.count else { throw .io }
        let length = try anew.status().st_size
        try rest.withBytes { (buffer: UnsafeRawBufferPointer) throws(Errno) in
            try anew.write(buffer, at: UInt64(length))
        }
        _ = try retryingOnInterrupt { fdatasync(anew.rawValue) }
    }

    /// A file that says all that counts, on the disk.
    private func write(_ records: [ChangeRecord], to name: [UInt8]) throws(Errno) -> OwnedDescriptor {
        let place = try state.withLock { state throws(Errno) in try openPlace(&state) }
        let file = try OwnedDescriptor.open(bytes: name, at: place, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW)
        let bytes = ChangeRecord.firstLine + records.flatMap(\.line)
        try bytes.withBytes { (buffer: UnsafeRawBufferPointer) throws(Errno) in try file.write(buffer, at: 0) }
        _ = try retryingOnInterrupt { fdatasync(file.rawValue) }
        return file
    }

    /// The new file is the log from the moment on that it has the name. Under `syncing`.
    private func replace(_ state: inout State, with file: OwnedDescriptor, _ name: [UInt8]) throws(Errno) {
        let place = try openPlace(&state)
        let end = try file.status().st_size
        try renameName(name, in: place, to: Self.name, in: place)
        state.file = file
        state.end = end
        state.longLength = max(Self.longLengthMin, end * 4)
        state.durable = state.appended
        state.isNamed = false
        state.isSuspect = false
        if state.room != nil { state.room = end }
        try? Self.makeRoom(&state, file, for: 0, isDeletion: true)
    }

    // MARK: The hidden directory

    /// Where things are made before they are put to their place.
    func work() throws(Errno) -> OwnedDescriptor {
        try state.withLock { state throws(Errno) in
            if state.isClosed { throw .notConnected }
            if let known = state.work { return known }
            let made = try make(Self.workName, in: try openPlace(&state))
            state.work = made
            return made
        }
    }

    /// - Parameter whole: bytes of it that are whole records; nil: all.
    private func open(_ state: inout State, whole: Int? = nil) throws(Errno) -> OwnedDescriptor {
        if let known = state.file { return known }
        let file = try OwnedDescriptor.open(
            bytes: Self.name, at: try openPlace(&state), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK)
        let status = try file.status()
        guard status.st_mode & S_IFMT == S_IFREG else { throw .io }
        state.end = status.st_size
        if let whole, whole < state.end { Self.cut(&state, file, to: off_t(whole)) }
        try? Self.makeRoom(&state, file, for: ChangeRecord.firstLine.count, isDeletion: true)
        if state.end == 0 {
            try ChangeRecord.firstLine.withBytes { (bytes: UnsafeRawBufferPointer) throws(Errno) in
                try file.write(bytes, at: 0)
            }
            state.end = off_t(ChangeRecord.firstLine.count)
            state.isNamed = false
        }
        state.file = file
        return file
    }

    private func openPlace(_ state: inout State) throws(Errno) -> OwnedDescriptor {
        if let known = state.place { return known }
        let made = try keepingTimesOfRoot { () throws(Errno) in try make(UpperLayout.hiddenName, in: root) }
        state.place = made
        return made
    }

    /// What is remembered is no change of the directory that is shown.
    private func keepingTimesOfRoot<Result>(_ body: () throws(Errno) -> Result) throws(Errno) -> Result {
        let status = try? root.status()
        defer {
            if let status {
                try? UpperObject.descriptor(root).setTimes(accessed: status.st_atim, modified: status.st_mtim)
            }
        }
        return try body()
    }

    private func make(_ name: [UInt8], in parent: OwnedDescriptor) throws(Errno) -> OwnedDescriptor {
        if name.withTerminated({ mkdirat(parent.rawValue, $0, 0o700) }) != 0, Errno.current != .exists {
            throw .current
        }
        let made = try OwnedDescriptor.open(bytes: name, at: parent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        // What is made in it must get nothing from where it stands.
        let object = UpperObject.descriptor(made)
        for list in ["default", "access"] {
            try? object.removeExtendedAttribute(Array("system.posix_acl_\(list)".utf8))
        }
        try? object.setPermissions(0o700)
        return made
    }

    /// Nothing is written from now on; what remembers nothing goes.
    func close() {
        state.withLock { $0.isClosed = true }
        compacting.withLock { $0.take() }?.join()
        alone.withLock { _ in
            try? recover()
            guard remembered.isEmpty else { return }
            let place = state.withLock { state in
                defer { (state.file, state.place, state.work) = (nil, nil, nil) }
                return state.place
            }
            guard let place else { return }
            try? keepingTimesOfRoot {
                Self.unlink(Self.name, in: place)
                Self.unlink(Self.workName, in: place, AT_REMOVEDIR)
                Self.unlink(UpperLayout.hiddenName, in: root, AT_REMOVEDIR)
            }
        }
    }

    static func unlink(_ name: [UInt8], in folder: OwnedDescriptor, _ flags: CInt = 0) {
        _ = name.withTerminated { unlinkat(folder.rawValue, $0, flags) }
    }

    // MARK: What an earlier mount left

    private func restore() throws(MCFSError) {
        guard var earlier = try EarlierLog(root: root) else { return }
        if let rename = earlier.lastRename {
            do throws(Errno) { try rename.finish(root: root) } catch { earlier.log.records.removeLast() }
        }
        let records = earlier.log.records
        for record in records { remembered.apply(record) }
        remembered.hideWhatMoved()
        state.withLock { $0.place = earlier.place }
        alone.withLock { _ in
            for name in [Self.nameWhileCompacting, Self.nameWhileRecovering] { Self.unlink(name, in: earlier.place) }
            earlier.clearWork()
            let kept = earlier.keepDamaged()
            if let problem = kept.problem { told.withLock { $0.append(problem) } }
            let live = remembered.records
            guard
                earlier.log.isTorn || earlier.log.damagedLines > 0 || records.count != live.count
                    || earlier.lastRename != nil || records.contains(where: \.isOfRename)
            else { return }
            do throws(Errno) {
                guard kept.isWhole else { throw .noSpace }
                let file = try write(live, to: Self.nameWhileRecovering)
                try state.withLock { state throws(Errno) in try replace(&state, with: file, Self.nameWhileRecovering) }
            } catch {
                // Without room for it, what is there goes on, behind its last whole line.
                Self.unlink(Self.nameWhileRecovering, in: earlier.place)
                state.withLock { state in
                    if !kept.isWhole { state.longLength = .max }
                    state.owesDone = earlier.lastRename != nil
                    _ = try? open(&state, whole: earlier.log.wholeBytes)
                }
            }
        }
    }
}
