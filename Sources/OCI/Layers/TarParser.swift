internal import MCFSCore

/// Understands the blocks of a tar, without I/O: its owner gives it the 512 bytes at `offset`, again and again, and
/// does with the data of the members in between what it likes.
///
/// Reads V7, ustar, star, GNU and PAX. What it keeps is bounded: one extended record of at most `recordBytesMax` per
/// kind, whatever the tar says.
struct TarParser {
    enum Step: Equatable {
        /// Give it the block at `offset`.
        case block
        /// A member; its data are at `TarMember.offset`. Then give it the block at `offset`.
        case member(TarMember)
        /// The tar ends here; what follows means nothing.
        case end
    }

    static let recordBytesMax: UInt64 = 1 << 20
    /// Members, those that are no entries among them.
    static let membersMax = MetadataBudget.entriesMax

    /// What messages call the tar.
    private let name: String
    /// Bytes of the tar, where they are known beforehand.
    private let size: UInt64?
    /// Where the next block that it wants lies.
    private(set) var offset: UInt64 = 0
    private(set) var hasEnded = false

    /// An extended record whose data are coming in.
    private struct Record {
        var type: UInt8
        var bytes: [UInt8] = []
        var missing: Int
    }
    private var record: Record?
    private var globals = PAXRecords()
    private var locals: PAXRecords?
    private var longName: [UInt8]?
    private var longLink: [UInt8]?
    private var memberCount = 0
    /// The last member's name and where its data end, without padding.
    private var last: (name: [UInt8], end: UInt64)?

    init(name: String, size: UInt64?) {
        self.name = name
        self.size = size
    }

    /// Takes the 512 bytes at `offset`.
    ///
    /// - Throws: `corrupt` where they cannot be part of a tar, `unsupported` for what mcfs does not read.
    mutating func take(_ block: [UInt8]) throws(MCFSError) -> Step {
        if hasEnded { return .end }
        if record != nil {
            offset += UInt64(TarHeader.byteCount)
            try collect(block)
            return .block
        }
        if TarHeader.isZero(block) {
            try checkNothingPending()
            hasEnded = true
            return .end
        }
        let header: TarHeader
        do {
            header = try TarHeader(block)
        } catch {
            switch error {
            case .checksum where offset == 0:
                throw corrupt("is no tar: its first header has a wrong checksum")
            case .checksum:
                throw corrupt("has a damaged header at byte \(offset): its checksum is wrong; push it again")
            case .number(let what):
                throw corrupt("has a damaged header at byte \(offset): its \(what) is no number, or out of range")
            }
        }
        return try take(header)
    }

    /// Says that the tar has no bytes beyond `end`.
    ///
    /// - Throws: `corrupt` where more had to come. Missing end blocks and missing padding at the end are fine.
    func finish(at end: UInt64) throws(MCFSError) {
        if hasEnded { return }
        if let last, last.end > end { throw truncated(in: last.name) }
        try checkNothingPending()
        if offset < end { throw corrupt("is truncated in the header at byte \(offset); push it again") }
    }

    func truncated(in entry: [UInt8]) -> MCFSError {
        corrupt("is truncated: the data of '\(MCFSError.shown(entry))' go beyond its end; push it again")
    }

    private func corrupt(_ text: String) -> MCFSError { MCFSError(.corrupt, "\(name) \(text)") }

    private func checkNothingPending() throws(MCFSError) {
        if record != nil || locals != nil || longName != nil || longLink != nil {
            throw corrupt("is truncated at byte \(offset): an extended header has no entry; push it again")
        }
    }
}

extension TarParser {
    private mutating func take(_ header: TarHeader) throws(MCFSError) -> Step {
        switch header.type {
        case UInt8(ascii: "x"), UInt8(ascii: "X"), UInt8(ascii: "g"), UInt8(ascii: "L"), UInt8(ascii: "K"):
            guard header.size <= Self.recordBytesMax else {
                throw corrupt(
                    "has an extended header of \(header.size) bytes at byte \(offset); at most \(Self.recordBytesMax) are read"
                )
            }
            offset += UInt64(TarHeader.byteCount)
            record = Record(type: header.type, missing: Int(header.size))
            if header.size == 0 { try finishRecord() }
            return .block
        case UInt8(ascii: "V"):
            // A volume's label.
            try skip(header.size, of: header.name)
            return .block
        default:
            return .member(try member(header))
        }
    }

    private mutating func collect(_ block: [UInt8]) throws(MCFSError) {
        guard var open = record.take() else { return }
        let count = min(open.missing, block.count)
        open.bytes += block[..<count]
        open.missing -= count
        let isComplete = open.missing == 0
        record = open
        if isComplete { try finishRecord() }
    }

    private mutating func finishRecord() throws(MCFSError) {
        guard let done = record.take() else { return }
        switch done.type {
        case UInt8(ascii: "L"): longName = Array(done.bytes.prefix { $0 != 0 })
        case UInt8(ascii: "K"): longLink = Array(done.bytes.prefix { $0 != 0 })
        default:
            guard let records = PAXRecords(done.bytes) else {
                throw corrupt("has a malformed PAX header before byte \(offset)")
            }
            if done.type == UInt8(ascii: "g") { globals.merge(records) } else { locals = records }
        }
    }

    /// Moves on by the header and `count` bytes of data.
    private mutating func skip(_ count: UInt64, of entry: [UInt8]) throws(MCFSError) {
        let block = UInt64(TarHeader.byteCount)
        let (end, overflow) = (offset + block).addingReportingOverflow(count)
        // Offsets stay below 2^63, as files' do.
        guard !overflow, end <= UInt64(Int64.max) - block else {
            throw corrupt("gives '\(MCFSError.shown(entry))' an impossible size of \(count) bytes")
        }
        last = (entry, end)
        if let size, end > size { throw truncated(in: entry) }
        offset = (end + block - 1) / block * block
    }

    private mutating func member(_ header: TarHeader) throws(MCFSError) -> TarMember {
        var records = globals
        if let locals { records.merge(locals) }
        let name = records.values[.path].flatMap { $0.isEmpty ? nil : $0 } ?? longName ?? header.name
        let link = records.values[.linkpath].flatMap { $0.isEmpty ? nil : $0 } ?? longLink ?? header.linkName
        (locals, longName, longLink) = (nil, nil, nil)

        memberCount += 1
        guard memberCount <= Self.membersMax else {
            throw MCFSError(
                .unsupported, "\(self.name) has more than \(Self.membersMax) entries; pack fewer files into one layer")
        }
        let kind = try kind(of: header, name, isSparse: records.isSparse)
        func number<T: FixedWidthInteger>(_ key: PAXRecords.Key, or field: T) throws(MCFSError) -> T {
            guard let text = records.values[key], !text.isEmpty else { return field }
            guard let value = TarNumber.decimal(text).flatMap(T.init(exactly:)) else {
                throw corrupt(
                    "gives '\(MCFSError.shown(name))' the \(key.rawValue) '\(MCFSError.shown(text))', which is no number or out of range"
                )
            }
            return value
        }
        var modified = Timestamp(seconds: header.modified)
        if let text = records.values[.mtime], !text.isEmpty {
            guard let time = PAXRecords.time(text) else {
                throw corrupt("gives '\(MCFSError.shown(name))' the time '\(MCFSError.shown(text))', which is none")
            }
            modified = time
        }
        // Only files have data, whatever other entries' size fields say.
        let size = kind == .file ? try number(.size, or: header.size) : 0
        let start = offset + UInt64(TarHeader.byteCount)
        // A directory's data are its dump (GNU's type D): passed over.
        try skip(header.type == UInt8(ascii: "D") ? try number(.size, or: header.size) : size, of: name)
        return TarMember(
            kind: kind, name: name, linkName: link, offset: start, size: size, permissions: header.permissions,
            uid: try number(.uid, or: header.uid), gid: try number(.gid, or: header.gid), modified: modified,
            deviceMajor: header.deviceMajor, deviceMinor: header.deviceMinor)
    }

    private func kind(of header: TarHeader, _ name: [UInt8], isSparse: Bool) throws(MCFSError) -> TarMember.Kind {
        if isSparse || header.type == UInt8(ascii: "S") {
            throw MCFSError(
                .unsupported,
                "\(self.name) holds '\(MCFSError.shown(name))' as a sparse file, which mcfs does not read; pack it without tar's --sparse"
            )
        }
        switch header.type {
        case 0, UInt8(ascii: "0"), UInt8(ascii: "7"):
            // V7 had no type for directories.
            return name.last == UInt8(ascii: "/") ? .directory : .file
        case UInt8(ascii: "1"): return .hardLink
        case UInt8(ascii: "2"): return .symlink
        case UInt8(ascii: "3"): return .characterDevice
        case UInt8(ascii: "4"): return .blockDevice
        case UInt8(ascii: "5"), UInt8(ascii: "D"): return .directory
        case UInt8(ascii: "6"): return .fifo
        default:
            throw MCFSError(
                .unsupported,
                "\(self.name) holds '\(MCFSError.shown(name))' as an entry of type '\(MCFSError.shown([header.type]))', which mcfs does not read; pack it with a common tar"
            )
        }
    }
}
