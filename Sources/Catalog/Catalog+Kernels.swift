internal import FoundationEssentials
internal import GRDB
package import MCFSCore

/// What was found out about kernels: what their metadata say they need, and how often they were used. Both are kept as
/// their owner wrote them.
extension Catalog {
    /// Descriptions that are kept; beyond them the oldest go.
    package static let kernelDescriptionsMax = 500_000
    /// Kernels whose use is kept, of all mountpoints; beyond them those go that were used longest ago.
    package static let kernelUsesMax = 500_000

    /// What was saved by these keys, which name all that a description follows from; nil for those that are not known.
    /// Fastest in the order in which they were saved.
    package func kernelDescriptions(of keys: [[UInt8]]) throws(MCFSError) -> [[UInt8]?] {
        try read("look up kernels") { db in
            let search = try db.cachedStatement(sql: "SELECT page FROM kernel WHERE key = ?")
            var pages: [Int64: KernelPage] = [:]
            var last: Int64?
            return try keys.map { key in
                if let last, let description = pages[last]?.next(key) { return description }
                guard let number = try Int64.fetchOne(search, arguments: [Data(key)]) else { return nil }
                last = number
                if pages[number] == nil { pages[number] = try page(number, db) }
                return pages[number]?.find(key)
            }
        }
    }

    private func page(_ number: Int64, _ db: Database) throws -> KernelPage? {
        let row = try Row.fetchOne(db, sql: "SELECT descriptions FROM kernelPage WHERE number = ?", arguments: [number])
        // A database that is damaged can have anything in a column.
        return try row?.withUnsafeData(atIndex: 0) { KernelPage([UInt8]($0 ?? Data())) }
    }

    /// In the order in which they will be asked for. What is known already was not understood: the page that holds it goes.
    package func saveKernelDescriptions(_ descriptions: [(key: [UInt8], description: [UInt8])]) throws(MCFSError) {
        if descriptions.isEmpty { return }
        try write("keep what kernels need") { db in
            let removal = try db.cachedStatement(
                sql: "DELETE FROM kernelPage WHERE number = (SELECT page FROM kernel WHERE key = ?)")
            for (key, _) in descriptions { try removal.execute(arguments: [Data(key)]) }
            let place = try db.cachedStatement(sql: "INSERT OR REPLACE INTO kernel (key, page) VALUES (?, ?)")
            for start in stride(from: 0, to: descriptions.count, by: KernelPage.countMax) {
                let some = descriptions[start...].prefix(KernelPage.countMax)
                try db.execute(
                    sql: "INSERT INTO kernelPage (descriptions) VALUES (?)",
                    arguments: [Data(KernelPage.bytes(of: some))])
                let page = db.lastInsertedRowID
                for (key, _) in some { try place.execute(arguments: [Data(key), page]) }
            }
            try db.execute(
                sql: """
                    DELETE FROM kernel WHERE rowid <= (SELECT MAX(rowid) FROM kernel) - ?;
                    DELETE FROM kernelPage WHERE number < (SELECT page FROM kernel ORDER BY rowid LIMIT 1);
                    """,
                arguments: [Self.kernelDescriptionsMax])
        }
    }

    /// How often something below a mountpoint was used.
    package struct KernelUse: Sendable, Equatable {
        package var hits: UInt64
        /// Of the last one, seconds since 1970.
        package var last: Int64

        package init(hits: UInt64, last: Int64) {
            self.hits = hits
            self.last = last
        }
    }

    /// By the path below the mountpoint.
    package func kernelUses(at mountpoint: String) throws(MCFSError) -> [String: KernelUse] {
        try read("look up the use of kernels") { db in
            let rows = try Row.fetchAll(
                db, sql: "SELECT path, hits, last FROM kernelUse WHERE mountpoint = ?", arguments: [mountpoint])
            return Dictionary(
                rows.map { ($0[0] as String, KernelUse(hits: UInt64(clamping: $0[1] as Int64), last: $0[2])) },
                uniquingKeysWith: { $1 })
        }
    }

    /// Replaces what was kept of these paths.
    package func saveKernelUses(_ uses: [String: KernelUse], at mountpoint: String) throws(MCFSError) {
        if uses.isEmpty { return }
        try write("keep the use of kernels") { db in
            let statement = try db.cachedStatement(
                sql: "INSERT OR REPLACE INTO kernelUse (mountpoint, path, hits, last) VALUES (?, ?, ?, ?)")
            for (path, use) in uses {
                try statement.execute(arguments: [mountpoint, path, Int64(clamping: use.hits), use.last])
            }
            try db.execute(
                sql: """
                    DELETE FROM kernelUse WHERE last < (
                        SELECT last FROM kernelUse ORDER BY last DESC LIMIT 1 OFFSET ?)
                    """,
                arguments: [Self.kernelUsesMax])
        }
    }
}
