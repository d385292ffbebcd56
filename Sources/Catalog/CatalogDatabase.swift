internal import GRDB
internal import Glibc
internal import MCFSCore

/// Opens `catalog.db`: recognises databases that are damaged, not ours, or of a newer mcfs.
enum CatalogDatabase {
    /// Stands in the database's header: "mcfs".
    private static let applicationID: Int32 = 0x6d63_6673
    /// The mcfs that wrote the newest migration below; shown by older ones that meet the database.
    private static let schemaSince = "0.1"

    private struct Foreign: Error {}

    static func open(_ path: String) throws(MCFSError) -> (queue: DatabaseQueue, warnings: [String]) {
        do { return (try opened(path), []) } catch {
            guard isDamaged(error, path) else { throw Self.error(error, "open the catalog \(path)") }
            let aside = try setAside(path)
            let why = error is Foreign ? "is not a catalog of mcfs" : "cannot be read (\(reason(error)))"
            let warning = """
                the catalog \(path) \(why); it was set aside as \(aside) and made anew, so pins must be given again
                """
            do { return (try opened(path), [warning]) } catch {
                throw Self.error(error, "make the catalog \(path)")
            }
        }
    }

    private static func opened(_ path: String) throws -> DatabaseQueue {
        var configuration = Configuration()
        configuration.journalMode = .wal
        configuration.busyMode = .timeout(10)
        configuration.label = "catalog"
        let queue = try DatabaseQueue(path: path, configuration: configuration)
        let migrator = migrations
        try queue.read { db in
            let found = try Int32.fetchOne(db, sql: "PRAGMA application_id") ?? 0
            let tables = try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM sqlite_master") ?? 0
            if found != applicationID && (found != 0 || tables != 0) { throw Foreign() }
            if try String.fetchOne(db, sql: "PRAGMA quick_check(1)") != "ok" {
                throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: "its pages contradict each other")
            }
            guard tables > 0, try migrator.hasBeenSuperseded(db) else { return }
            let since = try? String.fetchOne(db, sql: "SELECT since FROM writer")
            throw MCFSError(
                .configuration,
                """
                cannot open the catalog \(path): a newer mcfs made it; use mcfs \(since ?? "of that version") or later, \
                or choose another --cache-dir
                """)
        }
        try queue.writeWithoutTransaction { db in try db.execute(sql: "PRAGMA application_id = \(applicationID)") }
        try migrator.migrate(queue)
        // A statement on each table: pages that quick_check finds sound may still be of another schema.
        try queue.read { db in
            _ = try Row.fetchOne(db, sql: "SELECT reference, resolved, treeKey, sequence FROM resolution LIMIT 1")
            _ = try Row.fetchOne(db, sql: "SELECT key, page FROM kernel LIMIT 1")
            _ = try Row.fetchOne(db, sql: "SELECT number, descriptions FROM kernelPage LIMIT 1")
            _ = try Row.fetchOne(db, sql: "SELECT mountpoint, path, hits, last FROM kernelUse LIMIT 1")
            _ = try Row.fetchOne(db, sql: "SELECT reference, resolved, treeKey, include, exclude FROM pin LIMIT 1")
        }
        return queue
    }

    private static var migrations: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1") { db in
            try db.execute(
                sql: """
                    CREATE TABLE writer (since TEXT NOT NULL);
                    CREATE TABLE resolution (
                        reference TEXT NOT NULL PRIMARY KEY, resolved TEXT NOT NULL, treeKey TEXT NOT NULL,
                        sequence INTEGER NOT NULL);
                    CREATE INDEX resolutionByResolved ON resolution (resolved);
                    CREATE INDEX resolutionBySequence ON resolution (sequence);
                    CREATE TABLE pin (
                        reference TEXT NOT NULL, resolved TEXT NOT NULL, treeKey TEXT NOT NULL,
                        include TEXT NOT NULL, exclude TEXT NOT NULL,
                        UNIQUE (reference, resolved, include, exclude));
                    """)
            try db.execute(sql: "INSERT INTO writer (since) VALUES (?)", arguments: [schemaSince])
        }
        migrator.registerMigration("2") { db in
            try db.execute(
                sql: """
                    CREATE TABLE kernel (key TEXT NOT NULL UNIQUE, description TEXT NOT NULL);
                    CREATE TABLE kernelUse (
                        mountpoint TEXT NOT NULL, path TEXT NOT NULL, hits INTEGER NOT NULL, last INTEGER NOT NULL,
                        PRIMARY KEY (mountpoint, path)) WITHOUT ROWID;
                    """)
            try db.execute(sql: "UPDATE writer SET since = ?", arguments: [schemaSince])
        }
        migrator.registerMigration("3") { db in
            try db.execute(
                sql: """
                    DROP TABLE kernel;
                    CREATE TABLE kernel (key BLOB NOT NULL UNIQUE, page INTEGER NOT NULL);
                    CREATE TABLE kernelPage (number INTEGER PRIMARY KEY, descriptions BLOB NOT NULL);
                    """)
            try db.execute(sql: "UPDATE writer SET since = ?", arguments: [schemaSince])
        }
        return migrator
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
            throw MCFSError(localIO: "set the damaged catalog \(path) aside", error)
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
            case .SQLITE_FULL: (.noSpace, "free space on the cache's disk")
            case .SQLITE_BUSY, .SQLITE_LOCKED: (.busy, "another process uses this cache directory; try again")
            case .SQLITE_CANTOPEN, .SQLITE_READONLY, .SQLITE_PERM, .SQLITE_AUTH:
                (.cannotCreate, "make the cache directory writable or choose another --cache-dir")
            case .SQLITE_CORRUPT, .SQLITE_NOTADB: (.corrupt, "restart mcfs, which sets the damaged catalog aside")
            default: (.localIO, "look at the disk of the cache directory")
            }
        return MCFSError(code, "cannot \(what): \(reason(failure)); \(remedy)", cause: failure)
    }
}
