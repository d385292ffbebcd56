internal import GRDB
internal import LocalDatabase

/// The schema of `catalog.db`.
enum CatalogDatabase {
    /// The mcfs that wrote the newest migration below.
    private static let schemaSince = "0.1"

    static func file(_ path: String) -> DatabaseFile {
        DatabaseFile(
            name: "catalog", path: path, applicationID: 0x6d63_6673, migrations: migrations,
            probes: [
                "SELECT reference, resolved, treeKey, sequence FROM resolution", "SELECT key, page FROM kernel",
                "SELECT number, descriptions FROM kernelPage", "SELECT mountpoint, path, hits, last FROM kernelUse",
                "SELECT reference, resolved, treeKey, include, exclude FROM pin",
            ],
            afterLoss: "pins must be given again", alternative: "choose another --cache-dir")
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
}
