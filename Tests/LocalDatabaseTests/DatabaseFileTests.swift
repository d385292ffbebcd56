import GRDB
import Glibc
import MCFSCore
import MCFSTestSupport
import Testing

@testable import LocalDatabase

@Suite("an SQLite file of ours") struct DatabaseFileTests {
    let folder = TemporaryDirectory()

    private func file(migrations count: Int = 1, probe: String = "SELECT word FROM entry") -> DatabaseFile {
        var migrations = DatabaseMigrator()
        for number in 1...count {
            migrations.registerMigration("\(number)") { db in
                if number == 1 {
                    try db.execute(sql: "CREATE TABLE writer (since TEXT); INSERT INTO writer VALUES ('0.1')")
                    try db.execute(sql: "CREATE TABLE entry (word TEXT)")
                } else {
                    try db.execute(sql: "UPDATE writer SET since = '0.\(number)'")
                }
            }
        }
        return DatabaseFile(
            name: "book", path: folder.path + "/book.db", applicationID: 7, migrations: migrations, probes: [probe],
            afterLoss: "words must be said again", alternative: "name another book")
    }

    private func write(_ word: String) throws {
        try file().open().queue.write { try $0.execute(sql: "INSERT INTO entry VALUES (?)", arguments: [word]) }
    }

    private func words() throws -> [String] {
        try file().open().queue.read { try String.fetchAll($0, sql: "SELECT word FROM entry") }
    }

    private func exists(_ name: String) -> Bool { access("\(folder.path)/\(name)", F_OK) == 0 }

    @Test("what was written is there when it is opened again, after a migration too") func reopened() throws {
        try write("one")
        let opened = try file(migrations: 2).open()
        #expect(opened.warnings == [])
        #expect(try opened.queue.read { try String.fetchAll($0, sql: "SELECT word FROM entry") } == ["one"])
    }

    @Test("one of a newer mcfs is left alone, and the message says which reads it") func newer() throws {
        _ = try file(migrations: 3).open()
        let error = #expect(throws: MCFSError.self) { try file().open() }
        #expect(error?.code == .configuration)
        #expect(error?.message.hasSuffix("use mcfs 0.3 or later, or name another book") == true)
        #expect(try file(migrations: 3).open().warnings == [])
    }

    @Test("what another program made, or has another schema, is set aside whole and made anew") func setAside() throws {
        let path = folder.path + "/book.db"
        try DatabaseQueue(path: path).write { try $0.execute(sql: "CREATE TABLE entry (word TEXT)") }
        let foreign = try file().open()
        #expect(
            foreign.warnings == [
                "the book \(path) is no book of mcfs; it was set aside as \(path).damaged-1 and made anew: words must be said again"
            ])
        try foreign.queue.close()
        try write("lost")
        let other = file(probe: "SELECT letter FROM entry")
        #expect(throws: MCFSError.self) { try other.open() }
        #expect(exists("book.db.damaged-1") && exists("book.db.damaged-2"))
        #expect(try words() == [])
    }

    @Test("a damaged byte in the list of migrations, or in the header, is damage", arguments: ["migrations", "header"])
    func damagedBytes(_ place: String) throws {
        let path = folder.path + "/book.db"
        try write("lost")
        let queue = try DatabaseQueue(path: path)
        if place == "migrations" {
            try queue.write { try $0.execute(sql: "UPDATE grdb_migrations SET identifier = 'x'") }
        }
        try queue.writeWithoutTransaction { _ = try $0.checkpoint(.truncate) }
        try queue.close()
        if place == "header" {
            let file = try OwnedDescriptor.open(path, O_WRONLY)
            try [UInt8(3)].withBytes { bytes throws(Errno) in try file.write(bytes, at: 18) }
        }
        #expect(try file().open().warnings.count == 1)
        #expect(try words() == [] && exists("book.db.damaged-1"))
    }

    @Test(
        "failures have a code and name a remedy",
        arguments: [
            (ResultCode.SQLITE_FULL, MCFSError.Code.noSpace, "free space"), (.SQLITE_BUSY, .busy, "try again"),
            (.SQLITE_READONLY, .cannotCreate, "name another book"),
            (.SQLITE_CORRUPT, .corrupt, "sets the damaged book"),
            (.SQLITE_IOERR, .localIO, "look at the disk"),
        ])
    func errors(_ result: ResultCode, _ code: MCFSError.Code, _ remedy: String) {
        let error = file().error(DatabaseError(resultCode: result), "turn a page")
        #expect(error.code == code)
        #expect(error.message.hasPrefix("cannot turn a page: ") && error.message.contains(remedy))
    }
}
