import Foundation
import Glibc
import MCFSCore
import Testing

@testable import Upper

/// What the upper remembers, without a mount: each test opens the directory anew, as the next mount does.
@Suite struct UpperDirectoryTests {
    private let path: String

    init() throws {
        var template = Array("/tmp/mcfs-upper-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private func open() throws -> UpperDirectory {
        try UpperDirectory(try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY), path: path)
    }

    private func with(_ body: (UpperDirectory) throws -> Void) throws {
        let upper = try open()
        defer { upper.close() }
        try body(upper)
    }

    private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    private func marks(_ upper: UpperDirectory) -> [String: Mark] {
        var marks: [String: Mark] = [:]
        upper.root.forEachMark { marks[$0.description] = $1 }
        return marks
    }

    private var log: String { path + "/.mcfs-upper/changes" }
    private var logBytes: Int {
        get throws { try Data(contentsOf: URL(fileURLWithPath: log)).count }
    }
    private func clear() { try? FileManager.default.removeItem(atPath: path) }

    @Test("marks, and what was changed of files, are there again")
    func remembers() throws {
        defer { clear() }
        var metadata = LowerMetadata()
        metadata.permissions = 0o600
        try with { upper in
            try upper.remove(bytes("gone"), in: upper.root, isOnDisk: false, isDirectory: false, mark: .whiteout)
            try upper.rename(
                .init(bytes("a"), upper.root, inode: nil, isDirectory: true, mark: .whiteout),
                .init(bytes("b"), upper.root, inode: nil, isDirectory: true, mark: .redirect(try TreePath("a"))),
                isExchange: false)
            try upper.setMetadata(metadata, try TreePath("x/y"))
        }
        try with { upper in
            #expect(marks(upper) == ["gone": .whiteout, "a": .whiteout, "b": .redirect(try TreePath("a"))])
            #expect(upper.metadata == [try TreePath("x/y"): metadata])
            try upper.setMetadata(LowerMetadata(), try TreePath("x/y"))
        }
        try with { upper in #expect(upper.metadata.isEmpty) }
    }

    @Test("a rename takes along what is remembered below, and forgets what it replaces")
    func renameTakesAlong() throws {
        defer { clear() }
        mkdir(path + "/a", 0o755)
        mkdir(path + "/b", 0o755)
        try with { upper in
            for name in ["a", "b"] {
                let folder = upper.root.folder(bytes(name))
                folder.isOnDisk = true
                try upper.remove(bytes("in-\(name)"), in: folder, isOnDisk: false, isDirectory: false, mark: .whiteout)
            }
            let inode = try #require(try upper.status(bytes("a"), in: upper.root)).st_ino
            let other = try #require(try upper.status(bytes("b"), in: upper.root)).st_ino
            try upper.rename(
                .init(bytes("a"), upper.root, inode: UInt64(inode), isDirectory: true, mark: nil),
                .init(bytes("b"), upper.root, inode: UInt64(other), isDirectory: true, mark: nil), isExchange: false)
            #expect(marks(upper) == ["b/in-a": .whiteout])
        }
        try with { upper in #expect(marks(upper) == ["b/in-a": .whiteout]) }
    }

    @Test("a disk that refuses leaves what is remembered as it was")
    func refusal() throws {
        defer { clear() }
        mkdir(path + "/full", 0o755)
        mkdir(path + "/full/entry", 0o755)
        try with { upper in
            try upper.remove(bytes("x"), in: upper.root, isOnDisk: false, isDirectory: false, mark: .whiteout)
            let before = try Data(contentsOf: URL(fileURLWithPath: log))
            #expect(throws: Errno(rawValue: ENOTEMPTY)) {
                try upper.remove(bytes("full"), in: upper.root, isOnDisk: true, isDirectory: true, mark: .whiteout)
            }
            #expect(throws: Errno.noEntry) {
                try upper.rename(
                    .init(bytes("none"), upper.root, inode: 1, isDirectory: false, mark: .whiteout),
                    .init(bytes("there"), upper.root, inode: nil, isDirectory: false, mark: nil), isExchange: false)
            }
            #expect(try Data(contentsOf: URL(fileURLWithPath: log)) == before)
            #expect(marks(upper) == ["x": .whiteout])
        }
        try with { upper in #expect(marks(upper) == ["x": .whiteout]) }
    }

    @Test("a log of history is written anew when it is read, and one that got long while it is used")
    func compaction() throws {
        defer { clear() }
        try with { upper in
            for number in 0..<20_000 {
                try upper.settle()
                try upper.remove(
                    bytes("name"), in: upper.root, isOnDisk: false, isDirectory: false,
                    mark: number % 2 == 0 ? .whiteout : nil)
            }
            try upper.remove(bytes("last"), in: upper.root, isOnDisk: false, isDirectory: false, mark: .whiteout)
            let bytes = try logBytes
            #expect(bytes < 1 << 20)
        }
        try with { upper in
            #expect(marks(upper) == ["last": .whiteout])
            let bytes = try logBytes
            #expect(bytes < 100)
        }
    }

    @Test("what was being made when the daemon died is cleared away, and nothing is left where nothing is remembered")
    func clearsAway() throws {
        defer { clear() }
        try with { upper in
            let work = try upper.workPlace()
            _ = try OwnedDescriptor.open(bytes: work.name, at: work.folder, O_WRONLY | O_CREAT)
        }
        #expect(FileManager.default.fileExists(atPath: path + "/.mcfs-upper/work"))
        try with { _ in }
        #expect(try FileManager.default.contentsOfDirectory(atPath: path) == [])
    }

    @Test("one directory belongs to one owner at a time")
    func exclusive() throws {
        defer { clear() }
        let upper = try open()
        let error = #expect(throws: MCFSError.self) { _ = try open() }
        #expect(error?.code == .busy)
        upper.close()
        try with { _ in }
    }
}
