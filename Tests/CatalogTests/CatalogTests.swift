import Catalog
import GRDB
import Glibc
import MCFSCore
import Testing

@Suite struct CatalogTests {
    private let folder = TemporaryFolder()
    private var place: String { folder.path + "/cache" }

    private func resolution(_ number: Int, reference: String = "oci://h/r:t") -> Catalog.Resolution {
        Catalog.Resolution(reference: reference, resolved: "oci://h/r@\(number)", treeKey: "key-\(number)")
    }

    private func pin(_ number: Int, include: [String] = []) -> Catalog.Pin {
        Catalog.Pin(
            reference: "r\(number)", resolved: "resolved-\(number)", treeKey: "key-\(number)", include: include,
            exclude: ["x\n.y"])
    }

    private func sample(_ label: String = "x") throws -> Tree { try layered([file("a/b", label)]) }

    @Test("a resolution is found by what was typed and by its resolved form, the newest first") func resolutions()
        throws
    {
        do {
            let catalog = try Catalog(directory: place)
            #expect(try catalog.resolution(of: "oci://h/r:t") == nil)
            try catalog.record(resolution(1))
            try catalog.record(resolution(1, reference: "other"))
            try catalog.record(resolution(2))
        }
        let catalog = try Catalog(directory: place)
        #expect(try catalog.resolution(of: "oci://h/r:t") == resolution(2))
        #expect(try catalog.resolution(of: "oci://h/r@2") == resolution(2))
        #expect(try catalog.resolution(of: "oci://h/r@1") == resolution(1, reference: "other"))
        #expect(try catalog.resolution(of: "'; DROP TABLE resolution") == nil)
        #expect(catalog.warnings.isEmpty)
    }

    @Test("trees and layers survive a restart") func files() throws {
        let entries = [
            file("a", "x", source: 3, offset: 5), directory("d"), entry("a", .whiteout), entry("d", .opaque),
            link("h", to: "a"), entry("p", .fifo),
            entry("c", .characterDevice(major: 1, minor: 2)), entry("k", .blockDevice(major: 3, minor: 4)),
            entry("l", .symlink(target: [1, 2, 255])), directory(""),
        ]
        let digest = Digest.sha256(of: [1])
        try Catalog(directory: place).save(sample(), key: "a/../key\0")
        try Catalog(directory: place).saveLayer(digest, LayerTable(coding: .zstd, entries: entries))
        let catalog = try Catalog(directory: place)
        #expect(try catalog.tree("a/../key\0")?.presented == sample().presented)
        #expect(try catalog.tree("else") == nil)
        #expect(try catalog.layer(digest) == LayerTable(coding: .zstd, entries: entries))
        #expect(try catalog.layer(Digest.sha256(of: [2])) == nil)
        #expect(names(of: place + "/layers") == ["sha256-\(digest.hex).layer"])
    }

    @Test("a damaged tree or layer is not known, and its file goes") func damagedFiles() throws {
        let catalog = try Catalog(directory: place)
        let digest = Digest.sha256(of: [1])
        try catalog.save(sample(), key: "k")
        try catalog.saveLayer(digest, LayerTable(coding: .plain, entries: [file("a")]))
        for folder in ["trees", "layers"] {
            let file = try #require(names(of: "\(place)/\(folder)").first)
            var bytes = try readFile("\(place)/\(folder)/\(file)")
            bytes[bytes.count / 2] ^= 1
            try write(bytes, to: "\(place)/\(folder)/\(file)")
        }
        #expect(try catalog.tree("k") == nil)
        #expect(try catalog.layer(digest) == nil)
        #expect(names(of: place + "/trees").isEmpty && names(of: place + "/layers").isEmpty)
        #expect(catalog.warnings.count == 2)
    }

    @Test("a layer file cut at any length is not known") func truncatedLayer() throws {
        let catalog = try Catalog(directory: place)
        let digest = Digest.sha256(of: [1])
        let name = "\(place)/layers/sha256-\(digest.hex).layer"
        let entries = [file("a", "x"), link("b", to: "a"), entry("l", .symlink(target: [7]))]
        try catalog.saveLayer(digest, LayerTable(coding: .gzip, entries: entries))
        let bytes = try readFile(name)
        for count in 0..<bytes.count {
            try write(Array(bytes[..<count]), to: name)
            #expect(try catalog.layer(digest) == nil)
        }
    }

    @Test("pins are kept with their globs, once each, and removed by either name") func pins() throws {
        try Catalog(directory: place).add(pin(1, include: ["*.bin", ""]))
        let catalog = try Catalog(directory: place)
        try catalog.add(pin(2))
        try catalog.add(pin(2))
        #expect(try catalog.pins() == [pin(1, include: ["*.bin", ""]), pin(2)])
        #expect(try catalog.removePins(reference: "resolved-2"))
        #expect(try !catalog.removePins(reference: "r2"))
        #expect(try catalog.removePins(reference: "r1"))
        #expect(try catalog.pins().isEmpty)
    }

    @Test("the least recently used trees go beyond the bound, but no pinned and no mounted ones") func bound() throws {
        let catalog = try Catalog(directory: place)
        let tree = try sample()
        try catalog.add(pin(0))
        try catalog.keepTrees(["key-1"])
        for number in 0..<Catalog.treesMax { try catalog.save(tree, key: "key-\(number)") }
        _ = try catalog.tree("key-2")
        for number in Catalog.treesMax..<Catalog.treesMax + 3 { try catalog.save(tree, key: "key-\(number)") }
        #expect(names(of: place + "/trees").count == Catalog.treesMax)
        for number in [0, 1, 2, 6] { #expect(try catalog.tree("key-\(number)") != nil, "key-\(number)") }
        for number in [3, 4, 5] { #expect(try catalog.tree("key-\(number)") == nil, "key-\(number)") }
    }

    @Test(
        "a database that is damaged or not ours is set aside and made anew",
        arguments: [
            "", "not a database at all, but long enough for a header of SQLite", "foreign", "pages", "directory",
        ])
    func damagedDatabase(kind: String) throws {
        try Catalog(directory: place).record(resolution(1))
        let database = place + "/catalog.db"
        for suffix in ["-wal", "-shm"] { unlink(database + suffix) }
        switch kind {
        case "directory":
            unlink(database)
            mkdir(database, 0o700)
        case "foreign":
            unlink(database)
            try DatabaseQueue(path: database).write { try $0.execute(sql: "CREATE TABLE resolution (x)") }
        case "pages":
            var bytes = try readFile(database)
            for position in 100..<bytes.count { bytes[position] = UInt8(truncatingIfNeeded: position &* 7) }
            try write(bytes, to: database)
        default: try write(Array(kind.utf8), to: database)
        }
        let catalog = try Catalog(directory: place)
        #expect(try catalog.resolution(of: "oci://h/r:t") == nil)
        try catalog.record(resolution(2))
        // An empty file is what SQLite makes of a path before the first write.
        #expect(catalog.warnings.count == (kind.isEmpty ? 0 : 1))
        #expect(names(of: place).contains("catalog.db.damaged-1") == !kind.isEmpty)
        #expect(try Catalog(directory: place).resolution(of: "oci://h/r:t") == resolution(2))
    }

    @Test("random damage of the database never fails a start nor a query") func randomDamage() throws {
        let catalog = try Catalog(directory: place)
        for number in 0..<50 { try catalog.record(resolution(number, reference: "r\(number)")) }
        let database = place + "/catalog.db"
        try DatabaseQueue(path: database).writeWithoutTransaction { _ = try $0.checkpoint(.truncate) }
        let bytes = try readFile(database)
        let seed = UInt64.random(in: 0...UInt64.max)
        var generator = SeededGenerator(seed: seed)
        for round in 0..<60 {
            let copy = "\(folder.path)/copy-\(round)"
            mkdir(copy, 0o700)
            var damaged = bytes
            for _ in 0..<Int.random(in: 1...200, using: &generator) {
                damaged[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(
                    in: 0...255, using: &generator)
            }
            if round % 3 == 0 { damaged.removeLast(Int.random(in: 1..<bytes.count, using: &generator)) }
            try write(damaged, to: copy + "/catalog.db")
            do {
                let catalog = try Catalog(directory: copy)
                _ = try? catalog.resolution(of: "r7")
                _ = try? catalog.pins()
            } catch { Issue.record("seed \(seed), round \(round): \(error)") }
        }
    }

    @Test("a catalog of a newer mcfs is left alone, with the version that reads it") func newer() throws {
        _ = try Catalog(directory: place)
        let database = place + "/catalog.db"
        try DatabaseQueue(path: database).write { db in
            try db.execute(sql: "INSERT INTO grdb_migrations VALUES ('99'); UPDATE writer SET since = '7.5'")
        }
        let error = #expect(throws: MCFSError.self) { try Catalog(directory: place) }
        #expect(error?.code == .configuration)
        #expect(error?.message.contains("mcfs 7.5") == true && error?.message.contains("--cache-dir") == true)
        #expect(!names(of: place).contains("catalog.db.damaged-1"))
    }

    @Test("a list of migrations that no mcfs made is damage, not a newer mcfs") func damagedMigrations() throws {
        for number in 1...3 {
            _ = try Catalog(directory: place)
            try DatabaseQueue(path: place + "/catalog.db").write { db in
                try db.execute(
                    sql: "UPDATE grdb_migrations SET identifier = 'x' WHERE identifier = ?", arguments: ["\(number)"])
            }
            #expect(try Catalog(directory: place).warnings.count == 1, "migration \(number)")
        }
    }

    @Test("a directory that cannot be made is one clear sentence") func noDirectory() throws {
        try write([1], to: folder.path + "/file")
        let error = #expect(throws: MCFSError.self) { try Catalog(directory: folder.path + "/file/cache") }
        #expect(error?.code == .cannotCreate)
        #expect(error?.message.contains("--cache-dir") == true)
    }

    @Test("two catalogs on one directory see each other's records") func shared() throws {
        let first = try Catalog(directory: place)
        let second = try Catalog(directory: place)
        for number in 0..<20 {
            try first.record(resolution(number))
            try second.record(resolution(number, reference: "second"))
            #expect(try first.resolution(of: "second") == resolution(number, reference: "second"))
        }
    }

    @Test("what a crash left half written is removed after an hour") func leftovers() throws {
        _ = try Catalog(directory: place)
        try write([1], to: place + "/trees/.tmp-1-1")
        try write([1], to: place + "/trees/.tmp-1-2")
        _ = utimensat(
            AT_FDCWD, place + "/trees/.tmp-1-1", [timespec(tv_sec: 1, tv_nsec: 0), timespec(tv_sec: 1, tv_nsec: 0)], 0)
        _ = try Catalog(directory: place)
        #expect(names(of: place + "/trees") == [".tmp-1-2"])
    }

    @Test("what a link in the place of a folder leads to is left alone") func links() throws {
        let elsewhere = folder.path + "/elsewhere"
        for name in ["trees", "layers"] {
            for directory in [elsewhere, place] { mkdir(directory, 0o700) }
            try write([1], to: elsewhere + "/.tmp-1-1")
            _ = utimensat(
                AT_FDCWD, elsewhere + "/.tmp-1-1", [timespec(tv_sec: 1, tv_nsec: 0), timespec(tv_sec: 1, tv_nsec: 0)],
                0)
            rmdir(place + "/" + name)
            #expect(symlink(elsewhere, place + "/" + name) == 0)
            let catalog = try Catalog(directory: place)
            try catalog.record(resolution(1))
            try catalog.save(sample(), key: "key-1")
            #expect(names(of: elsewhere) == [".tmp-1-1"])
            #expect(try catalog.tree("key-1") != nil)
        }
    }
}
