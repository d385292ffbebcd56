internal import Glibc
internal import MCFSCore

/// The hidden directory of an upper as an earlier mount left it: its log, as far as it can be read.
struct EarlierLog {
    let place: OwnedDescriptor
    var log: ChangeRecord.Log
    /// It was written ahead, and nothing says that the disk has followed.
    let lastRename: Rename?
    private let bytes: [UInt8]

    /// nil where the upper has no such directory.
    ///
    /// - Parameter root: of the upper.
    /// - Throws: `configuration` for a version that this program does not know.
    init?(root: OwnedDescriptor) throws(MCFSError) {
        do throws(Errno) {
            place = try OwnedDescriptor.open(
                bytes: UpperLayout.hiddenName, at: root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        } catch {
            if error == .noEntry { return nil }
            throw MCFSError(localIO: "open .mcfs-upper of the upper", error)
        }
        do throws(Errno) { bytes = try Self.contents(of: ChangeLog.name, in: place) } catch {
            throw MCFSError(localIO: "read what the upper remembers", error)
        }
        log = try ChangeRecord.read(bytes)
        if case .rename(let rename) = log.records.last { lastRename = rename } else { lastRename = nil }
    }

    private static func contents(of name: [UInt8], in place: OwnedDescriptor) throws(Errno) -> [UInt8] {
        do throws(Errno) {
            // Whatever else somebody put there is not read, nor waited for.
            let file = try OwnedDescriptor.open(bytes: name, at: place, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            let status = try file.status()
            guard status.st_mode & S_IFMT == S_IFREG else { throw Errno(rawValue: EINVAL) }
            var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
            let count = try bytes.withBytes { (buffer: UnsafeMutableRawBufferPointer) throws(Errno) in
                try file.read(into: buffer, at: 0)
            }
            bytes.removeLast(bytes.count - count)
            return bytes
        } catch {
            if error == .noEntry { return [] }
            throw error
        }
    }

    /// Removes what was being made.
    func clearWork() {
        guard
            let work = try? OwnedDescriptor.open(
                bytes: ChangeLog.workName, at: place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW),
            let names = try? UpperDirectory.entries(work).map(\.name)
        else { return }
        for name in names {
            ChangeLog.unlink(name, in: work)
            ChangeLog.unlink(name, in: work, AT_REMOVEDIR)
        }
    }

    /// Keeps a damaged log as it is, for whoever wants to look at it.
    ///
    /// - Returns: `isWhole`: nothing is lost by writing the log anew; `problem`: what the user should know of the damage.
    func keepDamaged() -> (isWhole: Bool, problem: String?) {
        guard log.damagedLines > 0 else { return (true, nil) }
        var kept: String?
        for number in 1...1000 {
            let name = "changes.damaged-\(number)"
            do throws(Errno) {
                let file = try OwnedDescriptor.open(name, at: place, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW)
                try bytes.withBytes { (buffer: UnsafeRawBufferPointer) throws(Errno) in try file.write(buffer, at: 0) }
                _ = try retryingOnInterrupt { fsync(file.rawValue) }
                kept = name
                break
            } catch {
                if error == .exists { continue }
                ChangeLog.unlink(Array(name.utf8), in: place)
                break
            }
        }
        let remedy =
            kept.map { "the damaged file is kept as .mcfs-upper/\($0)" } ?? "there is no room to write it anew"
        return (kept != nil, "\(damage) in the upper cannot be read: \(Self.consequence); \(remedy)")
    }

    /// Which part of the log cannot be read.
    var damage: String {
        "\(log.damagedLines == 1 ? "a line" : "\(log.damagedLines) lines") of .mcfs-upper/changes"
    }

    static let consequence =
        "what was deleted, renamed or changed of the tree may show as it was before"
}
