internal import MCFSCore
internal import Testing

@testable internal import OCI

@Suite("tar formats", .timeLimit(.minutes(5)))
struct TarFormatTests {
    /// Read by ranges and as a stream in pieces of an odd size: both must see the same.
    private func entries(_ tar: [UInt8]) throws -> [TreeEntry] {
        let ranged = try LayerFixtures.index(tar).entries
        for pieceBytes in [7, 4096] {
            let streamed = try LayerFixtures.index(tar, hasRandomAccess: false, pieceBytes: pieceBytes).entries
            #expect(streamed.map(\.withoutIdentity) == ranged.map(\.withoutIdentity))
        }
        return ranged
    }

    private func error(_ tar: [UInt8]) -> MCFSError? {
        var found: [MCFSError] = []
        for hasRandomAccess in [true, false] {
            do {
                _ = try LayerFixtures.index(tar, hasRandomAccess: hasRandomAccess)
            } catch {
                found.append(error)
            }
        }
        #expect(found.count == 2)
        #expect(Set(found.map(\.message)).count == 1)
        return found.first
    }

    @Test("every kind of entry is read")
    func kinds() throws {
        let data = LayerFixtures.pattern(700)
        let tar = TarWriter.tar { tar in
            tar.add("./", type: "5", mode: 0o755)
            tar.add("/bin/", type: "5", mode: 0o1777)
            tar.add("bin/a", data, mode: 0o4755)
            tar.add("bin/empty")
            tar.add("bin/old", type: "\0", [1])
            tar.add("bin/contiguous", type: "7", [2, 3])
            tar.add("v7dir/", type: "\0", magic: .v7)
            tar.add("./bin/link", type: "2", link: "../../etc/passwd")
            tar.add("bin/hard", type: "1", link: "./bin/a")
            tar.add("bin/self", type: "1", link: "/bin/self")
            tar.add("fifo", type: "6")
            tar.add(
                header: TarWriter.header(Array("null".utf8), type: "3", size: TarWriter.octal(0, 12), device: (1, 3)))
            tar.add(
                header: TarWriter.header(Array("disk".utf8), type: "4", size: TarWriter.octal(0, 12), device: (8, 17)))
        }
        let entries = try entries(tar)
        #expect(
            entries.map(\.name) == [
                "", "bin", "bin/a", "bin/empty", "bin/old", "bin/contiguous", "v7dir", "bin/link", "bin/hard", "fifo",
                "null", "disk",
            ])
        #expect(entries[0].kind == .directory && entries[6].kind == .directory)
        #expect(entries[1].permissions == 0o1777 && entries[2].permissions == 0o4755)
        #expect(entries[2].uid == 1000 && entries[2].gid == 1001)
        #expect(entries[2].modified == Timestamp(seconds: 1_700_000_000))
        #expect(
            entries[2].content?.size == 700 && entries[2].content?.offset == 1536 && entries[2].content?.source == 0)
        #expect(entries[3].content?.id == BlobID(Digest.sha256(of: [])))
        #expect(entries[5].content?.size == 2)
        #expect(entries[7].kind == .symlink(target: Array("../../etc/passwd".utf8)))
        #expect(entries[8].kind == .hardLink(try TreePath("bin/a")))
        #expect(entries[9].kind == .fifo)
        #expect(entries[10].kind == .characterDevice(major: 1, minor: 3))
        #expect(entries[11].kind == .blockDevice(major: 8, minor: 17))
    }

    @Test("the bytes at a file's offset are the file, and its identity is their digest")
    func offsets() throws {
        let data = LayerFixtures.pattern(5000)
        let tar = TarWriter.tar { tar in
            tar.add("before", [9])
            tar.add("file", data)
        }
        let contents = LayerFixtures.Contents()
        let content = try #require(try LayerFixtures.index(tar, contents: contents).entries[1].content)
        #expect(Array(tar[Int(content.offset)..<Int(content.offset) + 5000]) == data)
        #expect(content.id == BlobID(Digest.sha256(of: data)))
        #expect(contents.committed[content.id] == data)
    }

    @Test("a prefix is joined for ustar only")
    func prefixes() throws {
        let size = TarWriter.octal(0, 12)
        let tar = TarWriter.tar { tar in
            tar.add(header: TarWriter.header(Array("n".utf8), size: size, prefix: Array("a/b".utf8)))
            tar.add(header: TarWriter.header(Array("n".utf8), size: size, prefix: Array("123".utf8), magic: .gnu))
        }
        #expect(try entries(tar).map(\.name) == ["a/b/n", "n"])
    }

    @Test("GNU long names and links hold for one entry")
    func gnuLong() throws {
        let long = String(repeating: "d/", count: 200) + "name"
        let target = String(repeating: "t", count: 600)
        let tar = TarWriter.tar { tar in
            tar.add("././@LongLink", type: "K", Array(target.utf8) + [0], magic: .gnu)
            tar.add("././@LongLink", type: "L", Array(long.utf8) + [0], magic: .gnu)
            tar.add("short", type: "2", link: "x", magic: .gnu)
            tar.add("next", type: "2", link: "y", magic: .gnu)
        }
        let entries = try entries(tar)
        #expect(entries.map(\.name) == [long, "next"])
        #expect(entries[0].kind == .symlink(target: Array(target.utf8)))
        #expect(entries[1].kind == .symlink(target: [UInt8(ascii: "y")]))
    }

    @Test("PAX records override the header, a local one a global one, an empty one takes back")
    func pax() throws {
        let tar = TarWriter.tar { tar in
            tar.add(pax: [("uid", "7"), ("mtime", "-1.25"), ("comment", "of the commit")], global: true)
            tar.add(pax: [
                ("path", "given/näme"), ("size", "3"), ("mtime", "1600000000.123456789123"), ("gid", "4000000000"),
                ("SCHILY.xattr.user.x", "a=b\nc"),
            ])
            tar.add(header: TarWriter.header(Array("n".utf8), size: TarWriter.octal(99, 12)), data: [1, 2, 3])
            tar.add("global")
            tar.add(pax: [("uid", ""), ("mtime", "")])
            tar.add("header")
        }
        let entries = try entries(tar)
        #expect(entries.map(\.name) == ["given/näme", "global", "header"])
        #expect(entries[0].content?.size == 3)
        #expect(entries[0].uid == 7 && entries[0].gid == 4_000_000_000)
        #expect(entries[0].modified == Timestamp(seconds: 1_600_000_000, nanoseconds: 123_456_789))
        #expect(entries[1].modified == Timestamp(seconds: -2, nanoseconds: 750_000_000))
        #expect(entries[2].uid == 1000 && entries[2].modified == Timestamp(seconds: 1_700_000_000))
    }

    @Test("a local PAX path wins over a GNU long name")
    func order() throws {
        let tar = TarWriter.tar { tar in
            tar.add(pax: [("path", "pax")])
            tar.add("././@LongLink", type: "L", Array("gnu".utf8) + [0], magic: .gnu)
            tar.add("header")
        }
        #expect(try entries(tar).map(\.name) == ["pax"])
    }

    @Test(
        "numbers are octal, base 256, or negative",
        arguments: [0, 1, -1, -2, 0o7777777, 1 << 40, -(1 << 40), Int64.max, .min])
    func numbers(value: Int64) {
        #expect(TarNumber.parse(TarWriter.base256(value, 12)[...]) == value)
        if value >= 0, value < 1 << 33 { #expect(TarNumber.parse(TarWriter.octal(value, 12)[...]) == value) }
    }

    @Test("number fields that are none are refused")
    func wrongNumbers() {
        #expect(TarNumber.parse(Array("  17 x".utf8)[...]) == 15)
        #expect(TarNumber.parse([0, 0, 0]) == 0)
        #expect(TarNumber.parse(Array("12a".utf8)[...]) == nil)
        #expect(TarNumber.parse([UInt8](repeating: 0x80 | 0x3f, count: 12)[...]) == nil)
        #expect(TarNumber.parse(Array(repeating: UInt8(ascii: "7"), count: 40)[...]) == nil)
        #expect(TarNumber.decimal("18446744073709551616".utf8) == nil)
        #expect(TarNumber.decimal("".utf8) == nil)
        #expect(PAXRecords.time(Array("-0.5".utf8)) == Timestamp(seconds: -1, nanoseconds: 500_000_000))
        for wrong in ["", "-", "1.2.3", "1e9", "99999999999999999999", "."] {
            #expect(PAXRecords.time(Array(wrong.utf8)) == nil)
        }
    }

    @Test("a checksum of signed bytes is accepted, a wrong one is not")
    func checksums() throws {
        var signed = TarWriter()
        signed.add(header: TarWriter.header([0xe4, 0xf6], size: TarWriter.octal(0, 12), signedChecksum: true))
        #expect(try entries(signed.bytes)[0].path.name == [0xe4, 0xf6])

        var tar = TarWriter.tar {
            $0.add("first"); $0.add("second")
        }
        tar[512 + 3] ^= 1
        let found = error(tar)
        #expect(found?.code == .corrupt)
        #expect(found?.message.contains("at byte 512") == true)
        #expect(error(LayerFixtures.pattern(2000))?.message.contains("is no tar") == true)
    }

    @Test(
        "malformed PAX headers are refused",
        arguments: [
            "x", "5 a=b\n", "99 path=a\n", "6 path\n", "9 path=ab", "4 =\n\n", "18446744073709551617 path=a\n",
            "-1 a=b\n",
        ])
    func malformedPAX(text: String) {
        var tar = TarWriter()
        tar.add("x", type: "x", Array(text.utf8))
        tar.add("file")
        tar.end()
        #expect(error(tar.bytes)?.code == .corrupt)
    }

    @Test("an extended header of more than a mebibyte is refused", arguments: ["x", "g", "L", "K"] as [Character])
    func hugeRecord(type: Character) {
        let header = TarWriter.header(Array("x".utf8), type: type, size: TarWriter.octal(1 << 20 + 1, 12))
        #expect(error(header + LayerFixtures.pattern(4096))?.code == .corrupt)
    }

    @Test("sparse files and unknown types are refused by name")
    func unsupported() {
        for tar in [
            TarWriter.tar { $0.add("holes", type: "S", magic: .gnu) },
            TarWriter.tar {
                $0.add(pax: [("GNU.sparse.major", "1"), ("GNU.sparse.name", "holes")])
                $0.add("holes")
            },
            TarWriter.tar { $0.add("holes", type: "Q") },
        ] {
            let found = error(tar)
            #expect(found?.code == .unsupported)
            #expect(found?.message.contains("'holes'") == true)
        }
    }

    @Test(
        "names that lead outside are refused with layer and entry",
        arguments: ["../x", "a/../../x", "a/..", "/..", "./.wh...", "a/.wh..", ".wh.", ".wh.d/x", "", "./."])
    func namesOutside(name: String) {
        let found = error(TarWriter.tar { $0.add(name) })
        #expect(found?.code == .corrupt)
        #expect(found?.message.contains("'\(name)'") == true)
        #expect(found?.message.contains("layer sha256:") == true)
    }

    @Test("hard links that lead outside are refused", arguments: ["../x", "/", "a/../b", ""])
    func linksOutside(target: String) {
        let found = error(TarWriter.tar { $0.add("link", type: "1", link: target) })
        #expect(found?.code == .corrupt)
        #expect(found?.message.contains("'link'") == true)
    }

    @Test("names that no file system has are refused, and messages stay short and clean")
    func wildNames() {
        for name in [
            String(repeating: "n", count: 256), String(repeating: "d/", count: 3000) + "n", "a\0b",
            "a\n\u{1b}[31m/../b",
        ] {
            let found = error(
                TarWriter.tar {
                    $0.add(pax: [("path", name)])
                    $0.add("file")
                })
            #expect(found?.code == .corrupt)
            #expect((found?.message.utf8.count ?? 0) < 1000)
            #expect(found?.message.utf8.contains { $0 < 0x20 } == false)
        }
    }

    @Test("whiteouts, opaque directories and AUFS' own files are told apart")
    func whiteouts() throws {
        let tar = TarWriter.tar { tar in
            tar.add("a/.wh.gone")
            tar.add("a/.wh..wh..opq")
            tar.add(".wh..wh..opq")
            tar.add(".wh..wh.plnk/", type: "5")
            tar.add(".wh..wh.plnk/4711.12", [1])
            tar.add("a/.wh..wh.aufs", [1])
            tar.add("a/.whatever")
        }
        let entries = try entries(tar)
        #expect(entries.map(\.name) == ["a/gone", "a", "", "a/.whatever"])
        #expect(entries.prefix(3).map(\.kind) == [.whiteout, .opaque, .opaque])
    }

    @Test("only files have data, whatever other entries' size fields say")
    func headersWithoutData() throws {
        let tar = TarWriter.tar { tar in
            tar.add("file", [1])
            for (name, type) in [("hard", "1"), ("link", "2"), ("dir/", "5")] as [(String, Character)] {
                tar.add(
                    header: TarWriter.header(
                        Array(name.utf8), type: type, size: TarWriter.octal(5000, 12), link: Array("file".utf8)))
            }
            tar.add("label", type: "V", [1, 2, 3], magic: .gnu)
            tar.add("dumped/", type: "D", LayerFixtures.pattern(600), magic: .gnu)
            tar.add("last", [2])
        }
        let entries = try entries(tar)
        #expect(entries.map(\.name) == ["file", "hard", "link", "dir", "dumped", "last"])
        #expect(entries[4].kind == .directory)
    }

    @Test("a name that comes twice stays twice, in order")
    func duplicates() throws {
        let tar = TarWriter.tar { tar in
            tar.add("a", [1])
            tar.add("b", [2])
            tar.add("a", [3, 4])
        }
        #expect(try entries(tar).map { $0.content?.size } == [1, 1, 2])
    }

    @Test("an impossible size is refused by name")
    func impossibleSizes() {
        for size in [Int64.max, Int64.max - 512, 1 << 62, 1 << 40] {
            var tar = TarWriter()
            tar.add(header: TarWriter.header(Array("liar".utf8), size: TarWriter.base256(size, 12)))
            tar.end()
            let found = error(tar.bytes)
            #expect(found?.code == .corrupt)
            #expect(found?.message.contains("'liar'") == true)
        }
        #expect(error(TarWriter.header([65], size: TarWriter.base256(-1, 12)))?.code == .corrupt)
    }

    @Test("the reader of whole tars lists names, places and sizes")
    func reader() throws {
        let tar = TarWriter.tar { tar in
            tar.add("./blobs/", type: "5")
            tar.add("blobs/a", [1, 2, 3])
            tar.add("index.json", [4])
        }
        let source = LayerFixtures.Source(tar)
        let found = try TarReader.entries(of: source, size: source.size, deadline: LayerFixtures.deadline)
        #expect(found.map(\.path.description) == ["blobs", "blobs/a", "index.json"])
        #expect(found.map(\.offset) == [512, 1024, 2048])
        #expect(found.map(\.size) == [0, 3, 1])
        #expect(found.map(\.isFile) == [false, true, true])
        #expect(throws: MCFSError.self) {
            let source = LayerFixtures.Source(Array(tar.prefix(1025)))
            _ = try TarReader.entries(of: source, size: source.size, deadline: LayerFixtures.deadline)
        }
    }
}
