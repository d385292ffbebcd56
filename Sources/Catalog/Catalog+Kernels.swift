internal import GRDB
package import MCFSCore

/// What was found out about kernels: what their metadata say they need, and how often they were used. Both are kept as
/// their owner wrote them.
extension Catalog {
    /// Descriptions that are kept; beyond them the oldest go.
    package static let kernelDescriptionsMax = 500_000
    /// Kernels whose use is kept, of all mountpoints; beyond them those go that were used longest ago.
    package static let kernelUsesMax = 500_000

    /// What was saved by these keys, which name all that a description follows from; of those that are not known nothing.
    package func kernelDescriptions(of keys: [String]) throws(MCFSError) -> [String: String] {
        try read("look up kernels") { db in
            var found: [String: String] = [:]
            let statement = try db.cachedStatement(sql: "SELECT description FROM kernel WHERE key = ?")
            for key in keys {
                if let text = try String.fetchOne(statement, arguments: [key]) { found[key] = text }
            }
            return found
        }
    }

    package func saveKernelDescriptions(_ descriptions: [String: String]) throws(MCFSError) {
        if descriptions.isEmpty { return }
        try write("keep what kernels need") { db in
            let statement = try db.cachedStatement(
                sql: "INSERT OR REPLACE INTO kernel (key, description) VALUES (?, ?)")
            for (key, text) in descriptions { try statement.execute(arguments: [key, text]) }
            try db.execute(
                sql: "DELETE FROM kernel WHERE rowid <= (SELECT MAX(rowid) FROM kernel) - ?",
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
                rows.map { ($0[0] as String, KernelUse(hits: UInt64($0[1] as Int64), last: $0[2])) },
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
