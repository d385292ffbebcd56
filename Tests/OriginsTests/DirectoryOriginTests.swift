import Catalog
import Glibc
import MCFSCore
import MCFSTestSupport
import Testing
import Transport

@testable import Origins

@Suite("Directory origin", .timeLimit(.minutes(5)))
struct DirectoryOriginTests {
    let folder = ScratchFolder()
    let scratch = ScratchFolder()

    private func origin(_ reference: String? = nil) throws(MCFSError) -> DirectoryOrigin {
        try DirectoryOrigin(
            reference ?? "file:\(folder.path)", environment: Environment([:]), http: HTTPClient(), logger: quietLogger)
    }

    private func key() throws -> String { try origin().resolve(deadline: Deadline(after: .seconds(20))).treeKey }

    private func load(_ reference: String? = nil) throws -> (
        tree: Tree, origin: DirectoryOrigin, resolution: Catalog.Resolution
    ) {
        let origin = try origin(reference)
        let resolution = try origin.resolve(deadline: Deadline(after: .seconds(20)))
        return (try origin.tree(of: resolution, loading: try scratchLoading(scratch)), origin, resolution)
    }

    private func source(
        of path: String, in loaded: (tree: Tree, origin: DirectoryOrigin, resolution: Catalog.Resolution)
    ) throws -> any ByteSource {
        let entry = try #require(loaded.tree.entry(at: TreePath(path)))
        let content = try #require(loaded.tree.content(of: entry))
        return try loaded.origin.source(loaded.tree.sources[content.source], of: loaded.resolution)
    }

    @Test("files, folders, links, fifos, modes and times are presented; sockets are not")
    func everything() throws {
        try folder.write("b.txt", "hello")
        mkdir(folder.path + "/d", 0o750)
        try folder.write("d/x", "x")
        link(folder.path + "/b.txt", folder.path + "/d/hard")
        symlink("../b.txt", folder.path + "/d/sym")
        symlink("/", folder.path + "/root")
        mkfifo(folder.path + "/fifo", 0o600)
        mknod(folder.path + "/sock", S_IFSOCK | 0o600, 0)
        chmod(folder.path + "/b.txt", 0o4711)
        var times = [timespec(tv_sec: 1, tv_nsec: 2), timespec(tv_sec: 1_000_000_000, tv_nsec: 123_456_789)]
        utimensat(AT_FDCWD, folder.path + "/b.txt", &times, 0)
        let (tree, _, resolution) = try load()
        #expect(tree.listing == ["b.txt", "d/", "fifo", "root", "d/hard", "d/sym", "d/x"])
        let file = try #require(tree.entry(at: TreePath("b.txt")))
        let hard = try #require(tree.entry(at: TreePath("d/hard")))
        #expect(tree.inode(of: file) == tree.inode(of: hard))
        let attributes = tree.attributes(of: file)
        #expect(attributes.permissions == 0o4711 && attributes.size == 5 && attributes.linkCount == 2)
        #expect(attributes.modified == Timestamp(seconds: 1_000_000_000, nanoseconds: 123_456_789))
        #expect(tree.attributes(of: try #require(tree.entry(at: TreePath("d")))).permissions == 0o750)
        #expect(tree.target(of: try #require(tree.entry(at: TreePath("d/sym")))) == Array("../b.txt".utf8))
        #expect(tree.attributes(of: try #require(tree.entry(at: TreePath("fifo")))).kind == .fifo)
        #expect(resolution.resolved == "file:\(folder.path)")
    }

    @Test("names of any bytes can be listed and read")
    func anyBytes() throws {
        let name: [UInt8] = [0xff, 0x20, 0x0a, 0xfe]
        let path = (Array(folder.path.utf8) + [0x2f] + name).map { CChar(bitPattern: $0) } + [0]
        let descriptor = open(path, O_WRONLY | O_CREAT, 0o644)
        #expect(descriptor >= 0)
        write(descriptor, "abc", 3)
        close(descriptor)
        let loaded = try load()
        let entry = try #require(loaded.tree.entry(at: TreePath(name)))
        let content = try #require(loaded.tree.content(of: entry))
        let source = try loaded.origin.source(loaded.tree.sources[content.source], of: loaded.resolution)
        #expect(try source.collect(ByteRange(0, 3)) == Array("abc".utf8))
    }

    @Test("ranges are read, across the pieces of a read")
    func ranges() throws {
        let bytes = (0..<(3 << 20) + 17).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 9) }
        try folder.write("big", bytes)
        let source = try source(of: "big", in: load())
        #expect(try source.collect(ByteRange(0, UInt64(bytes.count))) == bytes)
        #expect(try source.collect(ByteRange(1_048_570, 2_097_160)) == Array(bytes[1_048_570..<2_097_160]))
        #expect(try source.collect(ByteRange(5, 5)) == [])
    }

    @Test("the key changes with any change and stays without one")
    func keys() throws {
        try folder.write("a", "1")
        mkdir(folder.path + "/d", 0o755)
        var last = try key()
        #expect(try key() == last)
        let changes: [() throws -> Void] = [
            { try folder.write("a", "22") }, { chmod(folder.path + "/a", 0o600) }, { try folder.write("d/new", "") },
            { rename(folder.path + "/d/new", folder.path + "/d/newer") }, { symlink("x", folder.path + "/l") },
            {
                unlink(folder.path + "/l")
                symlink("y", folder.path + "/l")
            },
            {
                var times = [timespec(tv_sec: 1, tv_nsec: 0), timespec(tv_sec: 1, tv_nsec: 1)]
                utimensat(AT_FDCWD, folder.path + "/a", &times, 0)
            },
        ]
        for change in changes {
            try change()
            let now = try key()
            #expect(now != last)
            last = now
        }
    }

    @Test(
        "a file that was written, replaced, removed or made a link is an error",
        arguments: ["write", "keep time", "replace", "remove", "link", "fifo"])
    func changed(how: String) throws {
        let file = try folder.write("a", "12345")
        let source = try source(of: "a", in: load())
        switch how {
        case "write":
            try folder.write("a", "54321")
            var times = [timespec(tv_sec: 1, tv_nsec: 0), timespec(tv_sec: 1, tv_nsec: 0)]
            utimensat(AT_FDCWD, file, &times, 0)
        case "keep time": try rewrite(file, "54321")
        case "replace":
            try folder.write("b", "12345")
            rename(folder.path + "/b", file)
        case "remove": unlink(file)
        case "fifo":
            unlink(file)
            mkfifo(file, 0o600)
        default:
            unlink(file)
            symlink("/etc/hostname", file)
        }
        let error = refusal { () throws(MCFSError) in _ = try source.collect(ByteRange(0, 5)) }
        #expect(error?.code == .changed)
    }

    /// Writes as `rsync --inplace --times` does: size and modification time stay. The change time ticks in milliseconds.
    private func rewrite(_ file: String, _ text: String) throws {
        var before = stat()
        var after = stat()
        #expect(stat(file, &before) == 0)
        repeat {
            let descriptor = open(file, O_WRONLY)
            write(descriptor, text, text.utf8.count)
            close(descriptor)
            utimensat(AT_FDCWD, file, [before.st_atim, before.st_mtim], 0)
            #expect(stat(file, &after) == 0)
        } while after.st_ctim.tv_nsec == before.st_ctim.tv_nsec && after.st_ctim.tv_sec == before.st_ctim.tv_sec
        #expect(after.st_mtim.tv_nsec == before.st_mtim.tv_nsec && after.st_size == before.st_size)
    }

    @Test("a file that was written in place with its time kept is another one at the next mount")
    func rewritten() throws {
        let file = try folder.write("a", "12345")
        let old = try load()
        try rewrite(file, "54321")
        let new = try load()
        #expect(new.resolution.treeKey != old.resolution.treeKey)
        let (before, after) = (try #require(old.tree.content(of: 1)), try #require(new.tree.content(of: 1)))
        #expect(before.id != after.id)
    }

    @Test("every part of a file's version is part of its identity")
    func identity() throws {
        let time = Timestamp(seconds: 1, nanoseconds: 2)
        let first = LocalFileSource.Version(
            path: try TreePath("a"), size: 1, modified: time, changed: time, fileSystem: 1, inode: 1)
        let changes: [(inout LocalFileSource.Version) throws -> Void] = [
            { $0.path = try TreePath("b") }, { $0.size = 2 }, { $0.modified.seconds = 2 },
            { $0.modified.nanoseconds = 3 },
            { $0.changed.seconds = 2 }, { $0.changed.nanoseconds = 3 }, { $0.fileSystem = 2 }, { $0.inode = 2 },
        ]
        var seen: Set = [first.identity(below: "/r"), first.identity(below: "/s")]
        for change in changes {
            var version = first
            try change(&version)
            #expect(seen.insert(version.identity(below: "/r")).inserted)
            #expect(try LocalFileSource.Version(version.descriptor()) == version)
        }
    }

    @Test("a folder that changes between resolve and tree is an error")
    func changedFolder() throws {
        let origin = try origin()
        let old = try origin.resolve(deadline: Deadline(after: .seconds(20)))
        try folder.write("new", "")
        _ = try origin.resolve(deadline: Deadline(after: .seconds(20)))
        let loading = try scratchLoading(scratch)
        #expect(refusal { () throws(MCFSError) in _ = try origin.tree(of: old, loading: loading) }?.code == .changed)
    }

    @Test("a file instead of a folder presents that one file")
    func oneFile() throws {
        let file = try folder.write("only.bin", "abc")
        try folder.write("other", "x")
        let loaded = try load("file:\(file)")
        #expect(loaded.tree.listing == ["only.bin"])
        #expect(try source(of: "only.bin", in: loaded).collect(ByteRange(1, 3)) == Array("bc".utf8))
    }

    @Test("what is not there, or is neither file nor folder, is not found")
    func missing() throws {
        mkfifo(folder.path + "/fifo", 0o600)
        for path in ["/none", "/fifo", "/fifo/x"] {
            let origin = try origin("file:\(folder.path)\(path)")
            let error = refusal { () throws(MCFSError) in
                _ = try origin.resolve(deadline: Deadline(after: .seconds(20)))
            }
            #expect(error?.code == .notFound)
        }
        #expect(refusal { () throws(MCFSError) in _ = try origin("file:relative") }?.code == .usage)
    }

    @Test("an empty folder is an empty tree; slashes at its end make no difference")
    func empty() throws {
        let loaded = try load("file:\(folder.path)//")
        #expect(loaded.tree.listing == [])
        #expect(loaded.resolution.resolved == "file:\(folder.path)")
    }

    @Test("a folder that changes its place is still the one that was opened")
    func heldOpen() throws {
        mkdir(folder.path + "/d", 0o755)
        try folder.write("d/a", "abc")
        let loaded = try load("file:\(folder.path)/d")
        rename(folder.path + "/d", folder.path + "/e")
        #expect(try source(of: "a", in: loaded).collect(ByteRange(0, 3)) == Array("abc".utf8))
    }

    @Test("descriptors that are none of ours are refused")
    func descriptors() throws {
        try folder.write("a", "1")
        let loaded = try load()
        let changes = [
            ("kind", "s3"), ("size", "x"), ("mtime", "1"), ("ctime", "x.y"), ("dev", ""), ("ino", ""),
            ("path", "../../etc/passwd"),
        ]
        for (name, value) in changes {
            var descriptor = loaded.tree.sources[0]
            descriptor.properties[name] = value
            #expect(
                refusal { () throws(MCFSError) in _ = try loaded.origin.source(descriptor, of: loaded.resolution) }?
                    .code == .corrupt)
        }
    }

    @Test("very deep folders are walked")
    func deep() throws {
        var path = folder.path
        for _ in 0..<200 {
            path += "/dddddddd"
            mkdir(path, 0o755)
        }
        #expect(try load().tree.listing.count == 200)
    }
}
