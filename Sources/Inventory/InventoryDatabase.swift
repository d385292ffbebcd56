internal import GRDB
internal import Glibc
internal import LocalDatabase
internal import MCFSCore

/// The schema of the inventory's file, and where it lies.
enum InventoryDatabase {
    /// The mcfs that wrote the newest migration below.
    private static let schemaSince = "0.2"

    /// - Throws: `cannotCreate` where its folder cannot be made.
    static func file(_ path: String) throws(MCFSError) -> DatabaseFile {
        try makeParent(of: path)
        return DatabaseFile(
            name: "inventory", path: path, applicationID: 0x6d63_6b69, migrations: migrations,
            probes: [
                "SELECT place, isReference, indexed FROM root", "SELECT \(KernelRow.columns), file, stamps FROM kernel",
            ],
            afterLoss: "what was indexed must be indexed again", alternative: "name another file in MCFS_INVENTORY")
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
}
