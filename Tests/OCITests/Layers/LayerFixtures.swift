internal import Foundation
internal import Glibc
internal import MCFSCore
internal import Synchronization

@testable internal import OCI

/// What the tests of layers share.
enum LayerFixtures {
    static var deadline: Deadline { Deadline(after: .seconds(50)) }

    /// A source in memory that remembers what was asked of it.
    final class Source: ByteSource {
        let name = "the test's source"
        let hasRandomAccess: Bool
        let size: UInt64
        private let segments: [(offset: UInt64, bytes: [UInt8])]
        private let pieceBytes: Int
        /// Reads fail when they reach this offset.
        private let failsAt: UInt64
        /// Called before each piece.
        private let onPiece: @Sendable (UInt64) -> Void
        private let log = Lock<[ByteRange]>([])

        /// Zeros but for `segments`.
        init(
            size: UInt64, segments: [(offset: UInt64, bytes: [UInt8])], hasRandomAccess: Bool = true,
            pieceBytes: Int = 16 << 10,
            failsAt: UInt64 = .max, onPiece: @escaping @Sendable (UInt64) -> Void = { _ in }
        ) {
            self.size = size
            self.segments = segments
            self.hasRandomAccess = hasRandomAccess
            self.pieceBytes = pieceBytes
            self.failsAt = failsAt
            self.onPiece = onPiece
        }

        convenience init(
            _ bytes: [UInt8], hasRandomAccess: Bool = true, pieceBytes: Int = 16 << 10, failsAt: UInt64 = .max,
            onPiece: @escaping @Sendable (UInt64) -> Void = { _ in }
        ) {
            self.init(
                size: UInt64(bytes.count), segments: [(0, bytes)], hasRandomAccess: hasRandomAccess,
                pieceBytes: pieceBytes,
                failsAt: failsAt, onPiece: onPiece)
        }

        var requests: [ByteRange] { log.withLock { $0 } }
        var bytesRead: UInt64 { requests.reduce(0) { $0 + $1.count } }

        func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
            log.withLock { $0.append(range) }
            guard range.upperBound <= size else { throw MCFSError(.failed, "asked for \(range) of \(size)") }
            var offset = range.lowerBound
            while offset < range.upperBound {
                onPiece(offset)
                let end = min(range.upperBound, offset + UInt64(pieceBytes))
                if end > failsAt { throw MCFSError(.originUnavailable, "the connection broke", isTransient: true) }
                let piece = bytes(ByteRange(offset, end))
                try sink.waitForRoom(until: deadline, name)
                try piece.withUnsafeBufferPointer { (buffer) throws(MCFSError) in
                    try sink.write(UnsafeRawBufferPointer(buffer))
                }
                offset = end
            }
        }

        private func bytes(_ range: ByteRange) -> [UInt8] {
            var result = [UInt8](repeating: 0, count: Int(range.count))
            for segment in segments {
                let whole = ByteRange(offset: segment.offset, count: UInt64(segment.bytes.count))
                guard whole.overlaps(range) else { continue }
                let part = whole.clamped(to: range)
                let from = Int(part.lowerBound - segment.offset)
                let to = Int(part.lowerBound - range.lowerBound)
                result.replaceSubrange(to..<to + Int(part.count), with: segment.bytes[from..<from + Int(part.count)])
            }
            return result
        }
    }

    /// Keeps committed files by identity.
    final class Contents: ContentSink {
        enum Failure { case none, begin, write, commit }

        private let failure: Failure
        private let code: MCFSError.Code
        private let files = Lock<[BlobID: [UInt8]]>([:])

        init(failure: Failure = .none, code: MCFSError.Code = .localIO) {
            self.failure = failure
            self.code = code
        }

        var committed: [BlobID: [UInt8]] { files.withLock { $0 } }

        func beginContent(id: BlobID?, size: UInt64) throws(MCFSError) -> any ContentWriter {
            if failure == .begin { throw MCFSError(code, "no") }
            return Writer(self, id, size)
        }

        private final class Writer: ContentWriter {
            private let owner: Contents
            private let id: BlobID?
            private let size: UInt64
            private var bytes: [UInt8] = []

            init(_ owner: Contents, _ id: BlobID?, _ size: UInt64) {
                self.owner = owner
                self.id = id
                self.size = size
            }

            func write(_ piece: UnsafeRawBufferPointer) throws(MCFSError) {
                bytes += piece
                // Not with the first piece.
                if owner.failure == .write, bytes.count > 1000 { throw MCFSError(owner.code, "no") }
            }

            func commit() throws(MCFSError) -> BlobID {
                if owner.failure == .commit { throw MCFSError(owner.code, "no") }
                guard UInt64(bytes.count) == size else { throw MCFSError(.corrupt, "\(bytes.count) of \(size)") }
                guard let id = id ?? BlobID(Digest.sha256(of: bytes)) else { throw MCFSError(.failed, "no identity") }
                owner.files.withLock { $0[id] = bytes }
                return id
            }
        }
    }

    final class Progress: ProgressReporter {
        private let log = Lock<[(phase: String, done: UInt64, total: UInt64?)]>([])
        var reports: [(phase: String, done: UInt64, total: UInt64?)] { log.withLock { $0 } }
        func report(phase: String, done: UInt64, total: UInt64?) { log.withLock { $0.append((phase, done, total)) } }
    }

    static func digest(_ bytes: [UInt8]) -> Digest { Digest.sha256(of: bytes) }

    /// Indexes a layer that is in memory.
    static func index(
        _ bytes: [UInt8], hasRandomAccess: Bool = true, pieceBytes: Int = 16 << 10, contents: Contents = Contents()
    ) throws(MCFSError) -> LayerTable {
        let source = Source(bytes, hasRandomAccess: hasRandomAccess, pieceBytes: pieceBytes)
        return try index(source, digest(bytes), contents)
    }

    static func index(
        _ source: Source, _ digest: Digest, _ contents: Contents = Contents(), _ progress: Progress = Progress()
    ) throws(MCFSError) -> LayerTable {
        try LayerIndexer(
            digest: digest, size: source.size, source: source, content: contents, progress: progress
        ).index(deadline: deadline)
    }

    static func pattern(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
        var random = Random(seed: seed)
        return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next() >> 32) }
    }

    /// Repeatable numbers (a 64-bit linear congruential generator).
    struct Random: RandomNumberGenerator {
        private var state: UInt64
        init(seed: UInt64) { state = seed }
        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state ^ state >> 29
        }
    }

    /// Runs a program with `input` on its stdin; its stdout.
    static func run(_ arguments: [String], input: [UInt8] = [], directory: String? = nil) throws -> [UInt8] {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        if let directory { process.currentDirectoryURL = URL(fileURLWithPath: directory) }
        let scratch = try Scratch()
        let file = scratch.path + "/input"
        try Data(input).write(to: URL(fileURLWithPath: file))
        process.standardInput = try FileHandle(forReadingFrom: URL(fileURLWithPath: file))
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let bytes = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw MCFSError(.failed, "\(arguments) ended with \(process.terminationStatus)")
        }
        return Array(bytes)
    }

    /// A directory that goes with its owner.
    final class Scratch {
        let path: String

        init() throws {
            path = NSTemporaryDirectory() + "mcfs-layers-" + UUID().uuidString
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        }

        deinit { try? FileManager.default.removeItem(atPath: path) }
    }
}

/// Writes tars byte by byte, wrong ones too.
struct TarWriter {
    enum Magic { case v7, ustar, gnu }

    private(set) var bytes: [UInt8] = []

    static func octal(_ value: Int64, _ count: Int) -> [UInt8] {
        let digits = Array(String(value, radix: 8).utf8)
        return [UInt8](repeating: UInt8(ascii: "0"), count: max(0, count - 1 - digits.count)) + digits + [0]
    }

    static func base256(_ value: Int64, _ count: Int) -> [UInt8] {
        var field = (0..<count).map { index in
            UInt8(truncatingIfNeeded: value >> Int64(min(63, 8 * (count - 1 - index))))
        }
        field[0] |= 0x80
        return field
    }

    static func header(
        _ name: [UInt8], type: Character = "0", size: [UInt8], link: [UInt8] = [], prefix: [UInt8] = [],
        magic: Magic = .ustar, mode: Int64 = 0o644, uid: [UInt8] = octal(1000, 8),
        mtime: [UInt8] = octal(1_700_000_000, 12),
        device: (Int64, Int64) = (0, 0), signedChecksum: Bool = false
    ) -> [UInt8] {
        var block = [UInt8](repeating: 0, count: 512)
        func put(_ value: [UInt8], _ offset: Int) { block.replaceSubrange(offset..<offset + value.count, with: value) }
        put(Array(name.prefix(100)), 0)
        put(octal(mode, 8), 100)
        put(uid, 108)
        put(octal(1001, 8), 116)
        put(size, 124)
        put(mtime, 136)
        block[156] = type == "\0" ? 0 : type.asciiValue ?? 0
        put(Array(link.prefix(100)), 157)
        switch magic {
        case .v7: break
        case .ustar: put(Array("ustar\0".utf8) + Array("00".utf8), 257)
        case .gnu: put(Array("ustar  \0".utf8), 257)
        }
        if magic != .v7 {
            put(octal(device.0, 8), 329)
            put(octal(device.1, 8), 337)
            put(prefix, 345)
        }
        put(Array("        ".utf8), 148)
        let sum = block.reduce(Int64(0)) { $0 + (signedChecksum ? Int64(Int8(bitPattern: $1)) : Int64($1)) }
        put(Array(octal(sum, 7)) + [UInt8(ascii: " ")], 148)
        return block
    }

    mutating func add(header: [UInt8], data: [UInt8] = []) {
        bytes += header + data
        bytes += [UInt8](repeating: 0, count: (512 - data.count % 512) % 512)
    }

    mutating func add(
        _ name: String, type: Character = "0", _ data: [UInt8] = [], link: String = "", mode: Int64 = 0o644,
        magic: Magic = .ustar
    ) {
        add(
            header: Self.header(
                Array(name.utf8), type: type, size: Self.octal(Int64(data.count), 12), link: Array(link.utf8),
                magic: magic,
                mode: mode), data: data)
    }

    mutating func add(pax records: [(String, String)], global: Bool = false) {
        var data: [UInt8] = []
        for (key, value) in records {
            let rest = " \(key)=\(value)\n".utf8.count
            var length = rest + 1
            while String(length).utf8.count + rest != length { length += 1 }
            data += Array("\(length) \(key)=\(value)\n".utf8)
        }
        add("PaxHeaders/x", type: global ? "g" : "x", data)
    }

    mutating func end() { bytes += [UInt8](repeating: 0, count: 1024) }

    static func tar(_ body: (inout TarWriter) -> Void) -> [UInt8] {
        var writer = TarWriter()
        body(&writer)
        writer.end()
        return writer.bytes
    }
}

extension TreeEntry {
    var name: String { path.description }

    /// Without identities, which depend on how the layer was read.
    var withoutIdentity: TreeEntry {
        guard case .file(var content) = kind, let id = BlobID(Digest.sha256(of: [])) else { return self }
        content.id = id
        var copy = self
        copy.kind = .file(content)
        return copy
    }

    var content: Content? {
        guard case .file(let content) = kind else { return nil }
        return content
    }
}
