internal import GRDB
internal import Glibc
internal import MCFSCore

/// Opens the inventory's file: recognises what is damaged, not ours, or of a newer mcfs.
enum InventoryDatabase {
    /// Stands in the database's header: "mcki".
    private static let applicationID: Int32 = 0x6d63_6b69
    /// The mcfs that wrote the newest migration below; shown by older ones that meet the database.
    private static let schemaSince = "0.2"

    private struct Foreign: Error {}

    static func open(_ path: String) throws(MCFSError) -> (queue: DatabaseQueue, warnings: [String]) {
        try makeParent(of: path)
        do { return (try opened(path), []) } catch {
            guard isDamaged(error, path) else { throw Self.error(error, "open the inventory \(path)") }
            let aside = try setAside(path)
            let why = error is Foreign ? "is not an inventory of mcfs" : "cannot be read (\(reason(error)))"
            let warning = """
                the inventory \(path) \(why); it was set aside as \(aside) and made anew: what was indexed must be indexed again
                """
            do { return (try opened(path), [warning]) } catch {
                throw Self.error(error, "make the inventory \(path)")
            }
        }
    }

    private static func opened(_ path: String) throws -> DatabaseQueue {
        var configuration = Configuration()
        configuration.journalMode = .wal
        configuration.busyMode = .timeout(10)
        configuration.label = "inventory"
        let queue = try DatabaseQueue(path: path, configuration: configuration)
        let migrator = migrations
        let isNew = try queue.read { db in
            let found = try Int32.fetchOne(db, sql: "PRAGMA application_id") ?? 0
            let tables = try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM sqlite_master") ?? 0
            if found != applicationID && (found != 0 || tables != 0) { throw Foreign() }
            if try String.fetchOne(db, sql: "PRAGMA quick_check(1)") != "ok" {
                throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: "its pages contradict each other")
            }
            guard tables > 0 else { return true }
            if try migrator.hasBeenSuperseded(db) {
                let since = try? String.fetchOne(db, sql: "SELECT since FROM writer")
                throw MCFSError(
                    .configuration,
                    "cannot open the inventory \(path): a newer mcfs made it; use mcfs \(since ?? "of that version") or later, or name another file in MCFS_INVENTORY"
                )
            }
            return try !migrator.hasCompletedMigrations(db)
        }
        if isNew {
            try queue.writeWithoutTransaction { db in
                try db.execute(sql: "PRAGMA application_id = \(applicationID)")
            }
            try migrator.migrate(queue)
        }
        // A statement on each table: pages that quick_check finds sound may still be of another schema.
        try queue.read { db in
            _ = try Row.fetchOne(db, sql: "SELECT place, isReference, indexed FROM root LIMIT 1")
            _ = try Row.fetchOne(db, sql: "SELECT \(KernelRow.columns), file, stamps FROM kernel LIMIT 1")
        }
        return queue
    }

    /// The tables are strict, so that quick_check finds values of a type that rows are not read with.
    private static var migrations: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1") { db in
            try db.execute(
                sql: """
                    CREATE TABLE writer (since TEXT NOT NULL) STRICT;
                    CREATE TABLE root (
                        place TEXT NOT NULL PRIMARY KEY, isReference INTEGER NOT NULL, indexed INTEGER NOT NULL
                    ) STRICT;
                    CREATE TABLE kernel (
                        path BLOB NOT NULL PRIMARY KEY, kind TEXT NOT NULL, hash TEXT, name TEXT, backend TEXT, arch TEXT,
                        warpSize INTEGER, tritonVersion TEXT, numWarps INTEGER, numStages INTEGER, problem TEXT,
                        modified INTEGER NOT NULL, bytes INTEGER NOT NULL, irBytes INTEGER NOT NULL,
                        hits INTEGER NOT NULL DEFAULT 0, lastHit INTEGER, file BLOB, stamps BLOB
                    ) STRICT, WITHOUT ROWID;
                    """)
            try db.execute(sql: "INSERT INTO writer (since) VALUES (?)", arguments: [schemaSince])
        }
        return migrator
    }

    private static func makeParent(of path: String) throws(MCFSError) {
        let parent = path.prefix(upTo: path.lastIndex(of: "/") ?? path.startIndex)
        var prefix = path.hasPrefix("/") ? "/" : ""
        for component in parent.split(separator: "/") {
            prefix += component
            if mkdir(prefix, 0o700) != 0, errno != EEXIST {
                throw MCFSError(
                    .cannotCreate,
                    "cannot make the directory \(prefix) for the inventory: \(Errno.current); name another file in MCFS_INVENTORY"
                )
            }
            prefix += "/"
        }
    }

    // MARK: - Errors

    private static func isDamaged(_ error: any Error, _ path: String) -> Bool {
        if error is Foreign { return true }
        guard let error = error as? DatabaseError else { return false }
        switch error.resultCode {
        case .SQLITE_CORRUPT, .SQLITE_NOTADB, .SQLITE_ERROR, .SQLITE_SCHEMA, .SQLITE_MISMATCH, .SQLITE_CONSTRAINT:
            return true
        case .SQLITE_CANTOPEN:
            var status = stat()
            return lstat(path, &status) == 0 && status.st_mode & S_IFMT != S_IFREG
        default: return false
        }
    }

    /// - Returns: the new name.
    private static func setAside(_ path: String) throws(MCFSError) -> String {
        var number = 1
        var status = stat()
        while lstat("\(path).damaged-\(number)", &status) == 0 { number += 1 }
        let aside = "\(path).damaged-\(number)"
        do throws(Errno) { _ = try retryingOnInterrupt { rename(path, aside) } } catch {
            throw MCFSError(localIO: "set the damaged inventory \(path) aside", error)
        }
        // What belongs to the damaged file must not be replayed into the new one.
        for suffix in ["-wal", "-shm"] { rename(path + suffix, aside + suffix) }
        return aside
    }

    private static func reason(_ error: any Error) -> String {
        (error as? DatabaseError).map { $0.message ?? "SQLite error \($0.resultCode.rawValue)" } ?? "\(error)"
    }

    static func error(_ error: any Error, _ what: String) -> MCFSError {
        if let error = error as? MCFSError { return error }
        guard let failure = error as? DatabaseError else {
            return MCFSError(.failed, "cannot \(what): \(error)", cause: error)
        }
        let (code, remedy): (MCFSError.Code, String) =
            switch failure.resultCode {
            case .SQLITE_FULL: (.noSpace, "free space on its disk")
            case .SQLITE_BUSY, .SQLITE_LOCKED: (.busy, "another mcfs writes to it; try again")
            case .SQLITE_CANTOPEN, .SQLITE_READONLY, .SQLITE_PERM, .SQLITE_AUTH:
                (.cannotCreate, "make it writable or name another file in MCFS_INVENTORY")
            case .SQLITE_CORRUPT, .SQLITE_NOTADB: (.corrupt, "run the command again, which sets the damaged file aside")
            default: (.localIO, "look at its disk")
            }
        return MCFSError(code, "cannot \(what): \(reason(failure)); \(remedy)", cause: failure)
    }
}
