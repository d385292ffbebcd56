internal import MCFSCore

/// One line of the file that remembers what was done to the tree below: fields between spaces, the last one a checksum
/// of the others. A line that was garbled is passed over; one that was cut off, at the end, never came to be.
///
/// | line | says |
/// |---|---|
/// | `whiteout PATH` | nothing of the tree shows at PATH; what was remembered below PATH is forgotten |
/// | `redirect PATH LOWER` | LOWER of the tree shows at PATH |
/// | `clear PATH` | nothing is remembered of PATH and below |
/// | `metadata LOWER FIELD=VALUE…` | the file LOWER of the tree looks so |
/// | `rename FROM TO FIELD=VALUE…` | what is remembered below FROM is below TO from now on; the upper is to follow |
/// | `done` | the upper has followed the last `rename` |
///
/// Bytes of paths and values other than letters, digits and `._-/` are written as `%HH`.
enum ChangeRecord: Hashable {
    case whiteout(TreePath)
    case redirect(TreePath, to: TreePath)
    case clear(TreePath)
    case metadata(TreePath, LowerMetadata)
    case rename(Rename)
    case done

    private static let prefix = Array("mcfs-upper ".utf8)
    static let firstLine = prefix + Array("1\n".utf8)

    /// What a log says, and what cannot be read of it.
    struct Log {
        var records: [ChangeRecord] = []
        /// Lines that somebody garbled.
        var damagedLines = 0
        /// Bytes of whole lines from the beginning. What is behind them was being written when the daemon, or the power, went.
        var wholeBytes = 0
        var isTorn = false
    }

    /// - Throws: `configuration` for a version that this program does not know.
    static func read(_ bytes: [UInt8]) throws(MCFSError) -> Log {
        var log = Log()
        // After a loss of power a file may have its length and not its bytes.
        let used = bytes.lastIndex { $0 != 0 }.map { $0 + 1 } ?? 0
        var lines = bytes[..<used].split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        let rest = lines.popLast()?.count ?? 0
        log.wholeBytes = used - rest
        log.isTorn = log.wholeBytes < bytes.count
        guard let first = lines.first else { return log }
        log.records.reserveCapacity(lines.count)
        for line in lines.dropFirst() {
            if let record = ChangeRecord(line: line) { log.records.append(record) } else { log.damagedLines += 1 }
        }
        if !firstLine.dropLast().elementsEqual(first) {
            let rest = first.dropFirst(prefix.count)
            if first.starts(with: prefix), !rest.isEmpty,
                rest.allSatisfy({ UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 })
            {
                throw MCFSError(
                    .configuration,
                    "the upper was written by another version of mcfs; mount it with that version, or use another --upper"
                )
            }
            log.damagedLines += 1
        }
        return log
    }

    var isOfRename: Bool {
        switch self {
        case .rename, .done: true
        case .whiteout, .redirect, .clear, .metadata: false
        }
    }

    var line: [UInt8] {
        let fields: [[UInt8]] =
            switch self {
            case .whiteout(let path): ["whiteout".bytes, path.bytes.escaped]
            case .redirect(let path, let lower): ["redirect".bytes, path.bytes.escaped, lower.bytes.escaped]
            case .clear(let path): ["clear".bytes, path.bytes.escaped]
            case .metadata(let path, let metadata): ["metadata".bytes, path.bytes.escaped] + metadata.fields
            case .rename(let rename): ["rename".bytes] + rename.fields
            case .done: ["done".bytes]
            }
        let text = Array(fields.joined(separator: [UInt8(ascii: " ")]))
        return text + " \(checksum(text))\n".utf8
    }

    /// nil for what is no whole, valid line (without its line feed).
    init?(line: ArraySlice<UInt8>) {
        guard let space = line.lastIndex(of: UInt8(ascii: " ")),
            line[(space + 1)...].elementsEqual(checksum(Array(line[..<space])).utf8)
        else { return nil }
        var fields = line[..<space].split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)[...]
        guard let kind = fields.popFirst() else { return nil }
        func path() -> TreePath? { fields.popFirst().flatMap { TreePath(escaped: $0) } }
        switch String(decoding: kind, as: UTF8.self) {
        case "whiteout":
            guard let place = path() else { return nil }
            self = .whiteout(place)
        case "redirect":
            guard let place = path(), let lower = path() else { return nil }
            self = .redirect(place, to: lower)
        case "clear":
            guard let place = path() else { return nil }
            self = .clear(place)
        case "metadata":
            guard let lower = path(), let metadata = LowerMetadata(fields: fields) else { return nil }
            self = .metadata(lower, metadata)
        case "rename":
            guard let rename = Rename(fields: fields) else { return nil }
            self = .rename(rename)
        case "done": self = .done
        default: return nil
        }
    }
}

/// A rename as the log has it: the marks that are right afterwards, and what remains to be done in the upper, told by
/// inode numbers, so that doing it twice is doing it once.
struct Rename: Hashable {
    var from: TreePath
    var to: TreePath
    var isExchange = false
    var fromMark: Mark?
    var toMark: Mark?
    /// What the upper has at `from`: goes to `to`.
    var moves: UInt64?
    /// Exchange only, what the upper has at `to`: goes to `from`.
    var movesBack: UInt64?
    /// What the upper has at `to` and nothing of it replaces: is removed.
    var drops: UInt64?

    var needsUpper: Bool { moves != nil || movesBack != nil || drops != nil }
}

extension Rename {
    fileprivate var fields: [[UInt8]] {
        var fields = [from.bytes.escaped, to.bytes.escaped]
        if isExchange { fields.append("exchange".bytes) }
        for (key, mark) in [("from", fromMark), ("to", toMark)] {
            switch mark {
            case nil: break
            case .whiteout: fields.append("\(key)=whiteout".bytes)
            case .redirect(let lower): fields.append("\(key)=redirect:".bytes + lower.bytes.escaped)
            }
        }
        for (key, inode) in [("moves", moves), ("moves-back", movesBack), ("drops", drops)] {
            if let inode { fields.append("\(key)=\(inode)".bytes) }
        }
        return fields
    }

    fileprivate init?(fields: ArraySlice<ArraySlice<UInt8>>) {
        var fields = fields
        guard let from = fields.popFirst().flatMap({ TreePath(escaped: $0) }),
            let to = fields.popFirst().flatMap({ TreePath(escaped: $0) })
        else { return nil }
        self.init(from: from, to: to)
        for field in fields {
            let (key, value) = field.keyAndValue
            switch key {
            case "exchange": isExchange = true
            case "from", "to":
                guard let mark = Mark(value) else { return nil }
                if key == "from" { fromMark = mark } else { toMark = mark }
            case "moves", "moves-back", "drops":
                guard let inode = UInt64(String(decoding: value, as: UTF8.self)) else { return nil }
                if key == "moves" { moves = inode } else if key == "drops" { drops = inode } else { movesBack = inode }
            default: return nil
            }
        }
    }
}

extension Mark {
    fileprivate init?(_ value: ArraySlice<UInt8>) {
        if value.elementsEqual("whiteout".utf8) {
            self = .whiteout
        } else if value.starts(with: "redirect:".utf8), let path = TreePath(escaped: value.dropFirst("redirect:".count))
        {
            self = .redirect(path)
        } else {
            return nil
        }
    }
}

extension LowerMetadata {
    fileprivate var fields: [[UInt8]] {
        var fields: [[UInt8]] = []
        if let permissions { fields.append("mode=\(String(permissions, radix: 8))".bytes) }
        if let uid { fields.append("uid=\(uid)".bytes) }
        if let gid { fields.append("gid=\(gid)".bytes) }
        for (key, time) in [("atime", accessed), ("mtime", modified), ("ctime", changed)] {
            if let time { fields.append("\(key)=\(time.seconds).\(time.nanoseconds)".bytes) }
        }
        if let linkCount { fields.append("links=\(linkCount)".bytes) }
        for (name, value) in extendedAttributes.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            fields.append("x:".bytes + name.escaped + "=".bytes + (value.isEmpty ? [] : value.escaped))
        }
        return fields
    }

    fileprivate init?(fields: ArraySlice<ArraySlice<UInt8>>) {
        self.init()
        for field in fields {
            let (key, value) = field.keyAndValue
            let text = String(decoding: value, as: UTF8.self)
            switch key {
            case "mode":
                guard let number = UInt16(text, radix: 8), number <= 0o7777 else { return nil }
                permissions = number
            case "uid":
                guard let number = UInt32(text) else { return nil }
                uid = number
            case "gid":
                guard let number = UInt32(text) else { return nil }
                gid = number
            case "links":
                guard let number = UInt32(text) else { return nil }
                linkCount = number
            case "atime", "mtime", "ctime":
                guard let time = Timestamp(text) else { return nil }
                if key == "atime" { accessed = time } else if key == "mtime" { modified = time } else { changed = time }
            default:
                guard key.hasPrefix("x:"), let equals = field.firstIndex(of: UInt8(ascii: "=")),
                    let name = [UInt8](escaped: field[field.startIndex + 2..<equals]),
                    let bytes = [UInt8](escaped: value)
                else { return nil }
                extendedAttributes[name] = bytes
            }
        }
    }
}

extension Timestamp {
    fileprivate init?(_ text: String) {
        let parts = text.split(separator: ".")
        guard parts.count == 2, let seconds = Int64(parts[0]), let nanoseconds = UInt32(parts[1]) else { return nil }
        self.init(seconds: seconds, nanoseconds: nanoseconds)
    }
}

extension TreePath {
    /// The root is written as `/`: a field is never empty.
    fileprivate init?(escaped: ArraySlice<UInt8>) {
        guard let bytes = [UInt8](escaped: escaped), let path = try? TreePath(bytes) else { return nil }
        self = path
    }
}

extension String {
    fileprivate var bytes: [UInt8] { Array(utf8) }
}

extension ArraySlice<UInt8> {
    /// Of `KEY=VALUE`; the value is empty where there is no `=`.
    fileprivate var keyAndValue: (key: String, value: ArraySlice<UInt8>) {
        guard let equals = firstIndex(of: UInt8(ascii: "=")) else { return (String(decoding: self, as: UTF8.self), []) }
        return (String(decoding: self[..<equals], as: UTF8.self), self[(equals + 1)...])
    }
}

extension [UInt8] {
    fileprivate var escaped: [UInt8] {
        if isEmpty { return [UInt8(ascii: "/")] }
        var result: [UInt8] = []
        result.reserveCapacity(count)
        for byte in self {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"),
                UInt8(ascii: "/"):
                result.append(byte)
            default: result += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return result
    }

    fileprivate init?(escaped: ArraySlice<UInt8>) {
        self = []
        var rest = escaped
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                append(byte)
                continue
            }
            guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else {
                return nil
            }
            append(value)
            rest = rest.dropFirst(2)
        }
    }
}

private let digits = Array("0123456789ABCDEF".utf8)

/// FNV-1a, 64 bits: it is there for cut and garbled lines, not for those who forge them.
private func checksum(_ bytes: [UInt8]) -> String {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return String(hash, radix: 16)
}
