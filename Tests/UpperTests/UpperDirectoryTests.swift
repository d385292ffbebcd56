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

    private static func path(_ text: String) -> TreePath { try! TreePath(text) }

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

    @Test("what is forgotten is remembered still where what follows fails")
    func forgettingThatFails() throws {
        defer { clear() }
        var metadata = LowerMetadata()
        metadata.permissions = 0o600
        let forgotten: Set<TreePath> = [Self.path("gone")]
        try with { upper in
            try upper.remove(bytes("gone"), in: upper.root, isOnDisk: false, isDirectory: false, mark: .whiteout)
            try upper.alone { () throws(Errno) in try upper.setMetadata(metadata, Self.path("x/y")) }
            #expect(throws: Errno.io) {
                try upper.forget(forgotten, metadata: [(Self.path("x/y"), LowerMetadata())]) { () throws(Errno) in
                    // It is in the log by now, and does not count.
                    #expect(marks(upper) == ["gone": .whiteout])
                    throw .io
                }
            }
            #expect(marks(upper) == ["gone": .whiteout] && upper.metadata == [Self.path("x/y"): metadata])
        }
        try with { upper in
            #expect(marks(upper) == ["gone": .whiteout] && upper.metadata == [Self.path("x/y"): metadata])
            try upper.forget(forgotten, metadata: [(Self.path("x/y"), LowerMetadata())]) { () throws(Errno) in }
            #expect(marks(upper).isEmpty && upper.metadata.isEmpty)
        }
        try with { upper in #expect(marks(upper).isEmpty && upper.metadata.isEmpty) }
    }

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
            try upper.alone { () throws(Errno) in try upper.setMetadata(metadata, Self.path("x/y")) }
        }
        try with { upper in
            #expect(marks(upper) == ["gone": .whiteout, "a": .whiteout, "b": .redirect(try TreePath("a"))])
            #expect(upper.metadata == [try TreePath("x/y"): metadata])
            try upper.alone { () throws(Errno) in try upper.setMetadata(LowerMetadata(), Self.path("x/y")) }
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
                folder.identity = DiskIdentity(try #require(try upper.status(bytes(name), in: upper.root)))
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
                try upper.remove(
                    bytes("name"), in: upper.root, isOnDisk: false, isDirectory: false,
                    mark: number % 2 == 0 ? .whiteout : nil)
            }
            try upper.remove(bytes("last"), in: upper.root, isOnDisk: false, isDirectory: false, mark: .whiteout)
            // A thread of its own does that.
            let deadline = Deadline(after: .seconds(20))
            while try logBytes >= 1 << 20, !deadline.hasPassed { usleep(1000) }
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

    // MARK: A log that is damaged, torn, or cannot be written

    private func lines() throws -> [String] {
        String(decoding: try Data(contentsOf: URL(fileURLWithPath: log)), as: UTF8.self).split(separator: "\n")
            .map(String.init)
    }

    private func delete(_ names: [String]) throws {
        try with { upper in
            for name in names {
                try upper.remove(bytes(name), in: upper.root, isOnDisk: false, isDirectory: false, mark: .whiteout)
            }
        }
    }

    @Test("a garbled line costs what it says, the others count, and the file is kept as it was")
    func damagedLine() throws {
        defer { clear() }
        try delete((0..<40).map { "file-\($0)" })
        var damaged = try Data(contentsOf: URL(fileURLWithPath: log))
        // The first record.
        damaged[20] ^= 1
        try damaged.write(to: URL(fileURLWithPath: log))
        try with { upper in
            #expect(marks(upper).count == 39)
            #expect(upper.problems.count == 1)
            #expect(upper.problems.first?.contains(".mcfs-upper/changes.damaged-1") == true)
            let kept = try Data(contentsOf: URL(fileURLWithPath: log + ".damaged-1"))
            #expect(kept == damaged)
        }
        try with { upper in
            #expect(marks(upper).count == 39)
            #expect(upper.problems == [])
        }
        // Damaged once more: under a name of its own.
        damaged = try Data(contentsOf: URL(fileURLWithPath: log))
        damaged[20] ^= 1
        try damaged.write(to: URL(fileURLWithPath: log))
        try with { upper in #expect(marks(upper).count == 38) }
        #expect(FileManager.default.fileExists(atPath: log + ".damaged-2"))
    }

    @Test("damage of any one bit loses one record at most", arguments: 0..<64)
    func anyBit(_ seed: Int) throws {
        defer { clear() }
        try delete(["a", "b", "c"])
        var bytes = try Data(contentsOf: URL(fileURLWithPath: log))
        let place = seed * 7 % (bytes.count - 1)
        bytes[place] ^= UInt8(1 << (seed % 8))
        try bytes.write(to: URL(fileURLWithPath: log))
        try with { upper in
            #expect(marks(upper).count >= (bytes[place] == 0x0a ? 1 : 2))
            #expect(upper.problems.count == 1)
        }
    }

    @Test("what was being written when the power went is no damage")
    func tornEnd() throws {
        defer { clear() }
        try delete(["a", "b"])
        let whole = try Data(contentsOf: URL(fileURLWithPath: log))
        for rest in [Data("whiteout c 12".utf8), Data(repeating: 0, count: 100), Data("mcfs".utf8)] {
            try (whole + rest).write(to: URL(fileURLWithPath: log))
            try with { upper in
                #expect(marks(upper).keys.sorted() == ["a", "b"])
                #expect(upper.problems == [])
                try upper.remove(bytes("d"), in: upper.root, isOnDisk: false, isDirectory: false, mark: .whiteout)
                try upper.remove(bytes("d"), in: upper.root, isOnDisk: false, isDirectory: false, mark: nil)
            }
        }
        for nothing in [Data(), Data("mcfs-up".utf8), Data(repeating: 0, count: 4096)] {
            try nothing.write(to: URL(fileURLWithPath: log))
            try with { upper in
                #expect(marks(upper) == [:])
                #expect(upper.problems == [])
            }
            mkdir(path + "/.mcfs-upper", 0o700)
        }
    }

    @Test("a log of another version is left alone, and the mount refused")
    func otherVersion() throws {
        defer { clear() }
        try delete(["a"])
        try Data("mcfs-upper 2\nsomething else\n".utf8).write(to: URL(fileURLWithPath: log))
        #expect(throws: MCFSError.self) { try with { _ in } }
        let left = try lines()
        #expect(left == ["mcfs-upper 2", "something else"])
        // Also where it has records that this version knows.
        try FileManager.default.removeItem(atPath: path + "/.mcfs-upper")
        try delete(["a"])
        let known = try #require(try lines().last)
        try Data("mcfs-upper 12\n\(known)\nsomething else\n".utf8).write(to: URL(fileURLWithPath: log))
        #expect(throws: MCFSError.self) { try with { _ in } }
    }

    @Test("what the tree has is covered on the disk before something is made in its place, or not at all")
    func covers() throws {
        defer { clear() }
        try with { upper in
            #expect(throws: Errno.self) {
                try upper.cover(bytes("a"), in: upper.root) { () throws(Errno) in throw .io }
            }
            #expect(marks(upper) == [:])
            var before: [String] = []
            try upper.cover(bytes("a"), in: upper.root) { () throws(Errno) in before = (try? lines()) ?? [] }
            #expect(before.contains { $0.hasPrefix("whiteout a ") } && marks(upper) == ["a": .whiteout])
        }
        try with { upper in #expect(marks(upper) == ["a": .whiteout]) }
    }

    @Test("what was moved shows at one place, also where the line that hides it at the other is lost")
    func movedShowsOnce() throws {
        defer { clear() }
        try delete(["x"])
        let records: [ChangeRecord] = [
            .redirect(Self.path("E"), to: Self.path("d/e")), .redirect(Self.path("F"), to: Self.path("d/e/f")),
            .redirect(Self.path("one"), to: Self.path("two")), .redirect(Self.path("two"), to: Self.path("one")),
        ]
        try Data(ChangeRecord.firstLine + records.flatMap(\.line)).write(to: URL(fileURLWithPath: log))
        try with { upper in
            #expect(
                marks(upper) == [
                    "E": .redirect(Self.path("d/e")), "d/e": .whiteout,
                    "F": .redirect(Self.path("d/e/f")), "E/f": .whiteout,
                    "one": .redirect(Self.path("two")), "two": .redirect(Self.path("one")),
                ])
        }
    }

    @Test("what is no plain file in the place of the log is not waited for")
    func noFile() throws {
        defer { clear() }
        mkdir(path + "/.mcfs-upper", 0o700)
        mkfifo(log, 0o600)
        #expect(throws: MCFSError.self) { try with { _ in } }
    }

    @Test("a directory that the disk does not have is not reached by what is known of its folder")
    func goneFolder() throws {
        defer { clear() }
        try with { upper in
            mkdir(path + "/d", 0o700)
            let folder = upper.root.folder(bytes("d"))
            #expect(throws: Errno.self) { try upper.descriptor(of: folder) }
            folder.identity = DiskIdentity(try UpperObject.name(bytes("d"), in: upper.directory).status())
            _ = try upper.descriptor(of: folder)
        }
    }

    @Test("a rename that a kill interrupted is finished, and what is deleted after it stays deleted")
    func unfinishedRename() throws {
        defer { clear() }
        mkdir(path + "/e", 0o755)
        let inode = try #require(
            try FileManager.default.attributesOfItem(atPath: path + "/e")[.systemFileNumber] as? UInt64)
        var rename = Rename(from: Self.path("e"), to: Self.path("dir"))
        rename.moves = inode
        mkdir(path + "/.mcfs-upper", 0o700)
        try Data(ChangeRecord.firstLine + ChangeRecord.rename(rename).line).write(to: URL(fileURLWithPath: log))
        // Nothing is left to remember of it: the log must not lose its name while it is written to.
        try with { upper in
            #expect(FileManager.default.fileExists(atPath: path + "/dir"))
            try upper.remove(bytes("gone"), in: upper.root, isOnDisk: false, isDirectory: false, mark: .whiteout)
        }
        try with { upper in #expect(marks(upper) == ["gone": .whiteout]) }
    }

    @Test("a rename that the disk refused, and that a kill kept from being taken back, never was")
    func refusedRename() throws {
        defer { clear() }
        for folder in ["/dir", "/full", "/full/entry"] { mkdir(path + folder, 0o755) }
        let attributes = try FileManager.default.attributesOfItem(atPath: path + "/dir")
        var rename = Rename(from: Self.path("dir"), to: Self.path("full"))
        rename.moves = try #require(attributes[.systemFileNumber] as? UInt64)
        rename.fromMark = .whiteout
        mkdir(path + "/.mcfs-upper", 0o700)
        let records = [ChangeRecord.whiteout(Self.path("dir/one")), .rename(rename)]
        try Data(ChangeRecord.firstLine + records.flatMap(\.line)).write(to: URL(fileURLWithPath: log))
        for _ in 0..<2 { try with { upper in #expect(marks(upper) == ["dir/one": .whiteout]) } }
        #expect(FileManager.default.fileExists(atPath: path + "/dir"))
    }

    @Test("records that are appended while the log is written anew are in the new one")
    func compactionBesideChanges() throws {
        defer { clear() }
        for _ in 0..<3 {
            try with { upper in
                for number in 0..<30_000 {
                    try upper.remove(
                        bytes("name-\(number % 100)"), in: upper.root, isOnDisk: false, isDirectory: false,
                        mark: number % 200 < 100 ? .whiteout : nil)
                    if number % 1000 == 0 { try upper.settle() }
                }
                for number in 0..<50 {
                    try upper.remove(
                        bytes("name-\(number)"), in: upper.root, isOnDisk: false, isDirectory: false, mark: .whiteout)
                }
            }
            try with { upper in #expect(marks(upper).count == 50) }
        }
    }

    @Test("the directory's times are its own: what is remembered does not change them")
    func timesOfRoot() throws {
        defer { clear() }
        var times = [timespec(tv_sec: 1, tv_nsec: 0), timespec(tv_sec: 2, tv_nsec: 0)]
        utimensat(AT_FDCWD, path, &times, 0)
        var status = stat()
        try delete(["a"])
        stat(path, &status)
        #expect(status.st_mtim.tv_sec == 2)
        try with { upper in
            try upper.remove(bytes("a"), in: upper.root, isOnDisk: false, isDirectory: false, mark: nil)
        }
        stat(path, &status)
        #expect(status.st_mtim.tv_sec == 2)
        #expect(!FileManager.default.fileExists(atPath: path + "/.mcfs-upper"))
    }

    @Test("folders may hang as deep as anybody makes them")
    func deepFolders() throws {
        defer { clear() }
        try with { upper in
            var folder = upper.root
            for _ in 0..<100_000 { folder = folder.folder(bytes("d")) }
            try upper.alone { () throws(Errno) in }
            try upper.remove(bytes("gone"), in: folder, isOnDisk: false, isDirectory: false, mark: .whiteout)
            #expect(marks(upper).count == 1)
            #expect(throws: Errno.noEntry) { _ = try upper.descriptor(of: folder) }
            try upper.remove(bytes("gone"), in: folder, isOnDisk: false, isDirectory: false, mark: nil)
        }
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
