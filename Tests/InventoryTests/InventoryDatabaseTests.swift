import Foundation
import GRDB
import Glibc
import MCFSCore
import MCFSTestSupport
import Testing

@testable import Inventory

@Suite struct InventoryDatabaseTests {
    private let folder: CacheFolder
    /// Of the database under test, which nobody has open.
    private let path: String

    init() throws {
        folder = try CacheFolder("cache")
        path = folder.databasePath + ".tested"
        _ = try KernelInventory(path: path).index(folder: folder.path, now: CacheFolder.later)
    }

    private func bytes() throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }

    private func write(_ bytes: some Sequence<UInt8>) throws {
        for suffix in ["-wal", "-shm"] { unlink(path + suffix) }
        try Data(Array(bytes)).write(to: URL(fileURLWithPath: path))
    }

    @Test("a database is made with its folder, and opened again")
    func opens() throws {
        let inventory = try KernelInventory(path: path)
        #expect(inventory.warnings.isEmpty)
        #expect(try inventory.kernels(matching: KernelFilter()).count == 12)
    }

    @Test("a database that is cut short anywhere is read, or set aside with a warning")
    func truncated() throws {
        let whole = try bytes()
        for length in stride(from: 0, to: whole.count, by: 1021) {
            try write(whole.prefix(length))
            let inventory = try KernelInventory(path: path)
            if (1..<4096).contains(length) { #expect(inventory.warnings.count == 1) }
            #expect(try inventory.index(folder: folder.path, now: CacheFolder.later).kernels == 12)
        }
    }

    @Test("a database with changed bytes is read, or set aside with a warning, and used on")
    func changed() throws {
        let whole = try bytes()
        for seed in UInt64(0)..<100 {
            var generator = SeededGenerator(seed: seed)
            var bytes = whole
            for _ in 0..<seed % 10 + 1 {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] ^= UInt8.random(
                    in: 1...255, using: &generator)
            }
            try write(bytes)
            do {
                let inventory = try KernelInventory(path: path)
                _ = try inventory.kernels(matching: KernelFilter())
                _ = try inventory.index(folder: folder.path, now: CacheFolder.later)
            } catch {
                // Damage that no look at the structure finds shows when the page is used.
                #expect(error.code == .corrupt, "seed \(seed): \(error)")
            }
        }
    }

    @Test("what is no database, or another program's, is set aside")
    func foreign() throws {
        try write(Array("not a database at all, and long enough to be looked at".utf8))
        #expect(try KernelInventory(path: path).warnings.count == 1)
        let other = path + ".other"
        do { try DatabaseQueue(path: other).write { try $0.execute(sql: "CREATE TABLE t (a)") } }
        try write(Data(contentsOf: URL(fileURLWithPath: other)))
        #expect(try KernelInventory(path: path).warnings.first?.contains("is no inventory") ?? false)
        #expect(access(path + ".damaged-1", F_OK) == 0 && access(path + ".damaged-2", F_OK) == 0)
    }

    @Test("a newer mcfs's database is left alone")
    func newer() throws {
        try DatabaseQueue(path: path).write { db in
            try db.execute(sql: "INSERT INTO grdb_migrations (identifier) VALUES ('99')")
            try db.execute(sql: "UPDATE writer SET since = '9.9'")
        }
        let error = #expect(throws: MCFSError.self) { try KernelInventory(path: path) }
        #expect(error?.code == .configuration && error?.message.contains("9.9") ?? false)
    }
}
