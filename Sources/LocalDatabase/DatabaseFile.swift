package import GRDB
internal import Glibc
package import MCFSCore

/// An SQLite file of ours: how it is opened, brought to the newest schema, and set aside where it cannot be used.
package struct DatabaseFile: Sendable {
    /// As messages call it: "catalog".
    package let name: String
    package let path: String
    /// Stands in the database's header. A file with another one is not ours.
    package let applicationID: Int32
    /// Each keeps in the table `writer (since TEXT)` the first mcfs that knows it, for older ones that meet the database.
    package let migrations: DatabaseMigrator
    /// A query on all columns of each table: pages that SQLite finds sound may still be of another schema.
    package let probes: [String]
    /// What is to be done where it was made anew: "pins must be given again".
    package let afterLoss: String
    /// What a user can do who cannot use this file: "choose another --cache-dir".
    package let alternative: String

    package init(
        name: String, path: String, applicationID: Int32, migrations: DatabaseMigrator, probes: [String],
        afterLoss: String, alternative: String
    ) {
        self.name = name
        self.path = path
        self.applicationID = applicationID
        self.migrations = migrations
        self.probes = probes
        self.afterLoss = afterLoss
        self.alternative = alternative
    }

    /// Not a database of ours.
    private struct Foreign: Error {}

    /// - Returns: what was found damaged, too, as sentences. A damaged file is set aside and made anew.
    /// - Throws: `configuration` where a newer mcfs made it; see `error` for the rest; `corrupt` never.
    package func open() throws(MCFSError) -> (queue: DatabaseQueue, warnings: [String]) {
        do { return (try opened(), []) } catch {
            guard isDamage(error) else { throw self.error(error, "open the \(name) \(path)") }
            let aside = try setAside()
            let why = error is Foreign ? "is no \(name) of mcfs" : "cannot be read (\(Self.reason(error)))"
            let warning = "the \(name) \(path) \(why); it was set aside as \(aside) and made anew: \(afterLoss)"
            do { return (try opened(), [warning]) } catch { throw self.error(error, "make the \(name) \(path)") }
        }
    }

    /// What a failure means.
    ///
    /// - Parameter what: after "cannot".
    package func error(_ error: any Error, _ what: String) -> MCFSError {
        if let error = error as? MCFSError { return error }
        guard let failure = error as? DatabaseError else {
            return MCFSError(.failed, "cannot \(what): \(error)", cause: error)
        }
        let (code, remedy): (MCFSError.Code, String) =
            switch failure.resultCode {
            case .SQLITE_FULL: (.noSpace, "free space on the disk of \(path)")
            case .SQLITE_BUSY, .SQLITE_LOCKED: (.busy, "another process uses the \(name) \(path); try again")
            case .SQLITE_CANTOPEN, .SQLITE_READONLY, .SQLITE_PERM, .SQLITE_AUTH:
                (.cannotCreate, "make \(path) and its folder writable, or \(alternative)")
            case .SQLITE_CORRUPT, .SQLITE_NOTADB:
                (.corrupt, "start mcfs again, which sets the damaged \(name) aside")
            default: (.localIO, "look at the disk of \(path)")
            }
        return MCFSError(code, "cannot \(what): \(Self.reason(failure)); \(remedy)", cause: failure)
    }

    private func opened() throws -> DatabaseQueue {
        var configuration = Configuration()
        configuration.journalMode = .wal
        configuration.busyMode = .timeout(10)
        configuration.label = name
        let queue = try DatabaseQueue(path: path, configuration: configuration)
        let isOld = try queue.read { db in
            let found = try Int32.fetchOne(db, sql: "PRAGMA application_id") ?? 0
            let tables = try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM sqlite_master") ?? 0
            if found != applicationID && (found != 0 || tables != 0) { throw Foreign() }
            if try String.fetchOne(db, sql: "PRAGMA quick_check(1)") != "ok" {
                throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: "its pages contradict each other")
            }
            guard tables > 0 else { return true }
            let isWhole = try migrations.hasCompletedMigrations(db)
            if try migrations.hasBeenSuperseded(db) {
                // A newer mcfs made all of these, too.
                if !isWhole {
                    throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: "its list of migrations is none of mcfs")
                }
                let since = try? String.fetchOne(db, sql: "SELECT since FROM writer")
                throw MCFSError(
                    .configuration,
                    """
                    cannot open the \(name) \(path): a newer mcfs made it; use mcfs \(since ?? "of that version") or \
                    later, or \(alternative)
                    """)
            }
            return !isWhole
        }
        if isOld {
            try queue.writeWithoutTransaction { db in
                try db.execute(sql: "PRAGMA application_id = \(applicationID)")
            }
            try migrations.migrate(queue)
        }
        try queue.read { db in for probe in probes { _ = try Row.fetchOne(db, sql: probe + " LIMIT 1") } }
        return queue
    }

    private func isDamage(_ error: any Error) -> Bool {
        if error is Foreign { return true }
        guard let error = error as? DatabaseError else { return false }
        switch error.resultCode {
        case .SQLITE_CORRUPT, .SQLITE_NOTADB, .SQLITE_ERROR, .SQLITE_SCHEMA, .SQLITE_MISMATCH, .SQLITE_CONSTRAINT:
            return true
        case .SQLITE_CANTOPEN:
            var status = stat()
            return lstat(path, &status) == 0 && status.st_mode & S_IFMT != S_IFREG
        case .SQLITE_READONLY: return hasUnknownForm
        default: return false
        }
    }

    /// SQLite only reads files whose header says that they are of a later form; there is none so far
    /// (sqlite.org/fileformat2.html, 1.3.3).
    private var hasUnknownForm: Bool {
        var form: UInt8 = 0
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY) else { return false }
        return pread(file.rawValue, &form, 1, 18) == 1 && form > 2
    }

    /// - Returns: the new name.
    private func setAside() throws(MCFSError) -> String {
        var number = 1
        var status = stat()
        while lstat("\(path).damaged-\(number)", &status) == 0 { number += 1 }
        let aside = "\(path).damaged-\(number)"
        do throws(Errno) { _ = try retryingOnInterrupt { rename(path, aside) } } catch {
            throw MCFSError(localIO: "set the damaged \(name) \(path) aside", error)
        }
        // What belongs to the damaged file must not be replayed into the new one.
        for suffix in ["-wal", "-shm"] { rename(path + suffix, aside + suffix) }
        return aside
    }

    private static func reason(_ error: any Error) -> String {
        (error as? DatabaseError).map { $0.message ?? "SQLite error \($0.resultCode.rawValue)" } ?? "\(error)"
    }
}
