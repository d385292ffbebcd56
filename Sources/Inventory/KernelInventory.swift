internal import FoundationEssentials
internal import GRDB
internal import LocalDatabase
package import MCFSCore

/// The kernels of folders and references that were indexed, in one SQLite file. Thread safe, and for several processes.
///
/// What is below a folder is replaced by what is there when the folder is indexed again; the hits of a path stay as long
/// as there is a kernel at it.
package final class KernelInventory: Sendable {
    /// A folder or reference that was indexed. None lies in another.
    package struct Root: Hashable, Sendable {
        package var place: String
        package var isReference: Bool
        /// When it was indexed last, in seconds since 1970.
        package var indexed: Int64
    }

    private let file: DatabaseFile
    private let database: DatabaseQueue
    /// What was found damaged when it was opened.
    package let warnings: [String]

    /// - Throws: `configuration` where a newer mcfs made the database, `localIO`, `noSpace`, `cannotCreate`, `busy`;
    ///   `corrupt` never: a database that cannot be read is set aside with a message in `warnings` and made anew.
    package init(path: String) throws(MCFSError) {
        file = try InventoryDatabase.file(path)
        (database, warnings) = try file.open()
    }

    /// Sorted by place.
    package func roots() throws(MCFSError) -> [Root] {
        try read("list what was indexed") { db in
            try Row.fetchAll(db, sql: "SELECT place, isReference, indexed FROM root ORDER BY place").map {
                Root(place: $0[0], isReference: $0[1], indexed: $0[2])
            }
        }
    }

    /// - Parameter now: what ages count from.
    package func kernels(
        matching filter: KernelFilter, sortedBy order: KernelOrder = .path, now: Timestamp = .now
    ) throws(MCFSError) -> [IndexedKernel] {
        try filter.check()
        let rows = PathRange(filter.place ?? "")
        return try read("list the kernels") { db in
            var kernels: [IndexedKernel] = []
            let found = try Row.fetchCursor(
                db, sql: "SELECT \(KernelRow.columns) FROM kernel WHERE \(rows.condition) ORDER BY \(order.sql)",
                arguments: rows.arguments)
            while let row = try found.next() {
                if let kernel = KernelRow.kernel(row), filter.matches(kernel, now: now.seconds) {
                    kernels.append(kernel)
                }
            }
            return kernels
        }
    }

    /// Hits as a mount counted them since it remembers; what was counted before stays where it is more.
    package func record(hits: [(path: [UInt8], count: UInt64, last: Int64?)]) throws(MCFSError) {
        try write("record hits") { db in
            let statement = try db.cachedStatement(
                sql: """
                    UPDATE kernel SET hits = MAX(hits, ?1), lastHit = MAX(IFNULL(lastHit, ?2), IFNULL(?2, lastHit))
                    WHERE path = ?3 AND (hits < ?1 OR IFNULL(lastHit, -1) < IFNULL(?2, -1))
                    """)
            for hit in hits {
                try statement.execute(arguments: [Int64(clamping: hit.count), hit.last, Data(hit.path)])
            }
        }
    }

    // MARK: - Indexing

    /// Looks at a folder again: what did not change since is not read again, and what is gone is forgotten.
    ///
    /// - Parameter folder: absolute, canonical.
    /// - Throws: `notFound` for a folder that is not there and of which nothing is known; see `FolderScan`.
    package func index(folder: String, now: Timestamp = .now) throws(MCFSError) -> IndexReport {
        let before = try entries(in: folder)
        do {
            let kernels = try FolderKernels(
                in: folder, known: before.compactMapValues(\.known), now: now.nanosecondsSince1970)
            return try replace(folder, before, with: kernels, now: now)
        } catch {
            guard error.code == .notFound, !before.isEmpty else { throw error }
            try forget(folder)
            return IndexReport(place: folder, removed: before.count)
        }
    }

    /// Likewise, reading everything anew.
    func look(in folder: String, now: Timestamp) throws(MCFSError) -> FolderKernels {
        let kernels = try FolderKernels(in: folder, known: [:], now: now.nanosecondsSince1970)
        _ = try replace(folder, try entries(in: folder), with: kernels, now: now)
        return kernels
    }

    private func replace(
        _ folder: String, _ before: [[UInt8]: Entry], with kernels: FolderKernels, now: Timestamp
    ) throws(MCFSError) -> IndexReport {
        let found = kernels.found.compactMap(\.self).map { Entry(kernel: $0.kernel, known: $0.known) }
        let lost = kernels.scan.unreadable
        var kept = Set(kernels.scan.kept)
        for path in before.keys where lost.contains(where: { path.isAtOrBelow($0.path) }) { kept.insert(path) }
        var report = try replace(folder, isReference: false, before, with: found, keeping: kept, now: now)
        report.filesRead = kernels.filesRead
        report.warnings = lost.map { path, error in
            "cannot list \(String(decoding: path, as: UTF8.self)): \(error); what is known of it stays as it was"
        }
        return report
    }

    /// Replaces what is known of a reference.
    ///
    /// - Parameter kernels: their paths begin with the reference and `/`.
    package func record(
        _ kernels: [IndexedKernel], of reference: String, now: Timestamp = .now
    ) throws(MCFSError) -> IndexReport {
        try replace(
            reference, isReference: true, try entries(in: reference),
            with: kernels.map { Entry(kernel: $0, known: nil) },
            keeping: [], now: now)
    }

    private struct Entry {
        var kernel: IndexedKernel
        var known: FolderScan.Known?
    }

    private func entries(in place: String) throws(MCFSError) -> [[UInt8]: Entry] {
        let range = PathRange(place)
        return try read("look up \(place)") { db in
            var entries: [[UInt8]: Entry] = [:]
            let rows = try Row.fetchCursor(
                db, sql: "SELECT \(KernelRow.columns), file, stamps FROM kernel WHERE \(range.condition)",
                arguments: range.arguments)
            while let row = try rows.next() {
                guard let kernel = KernelRow.kernel(row) else { continue }
                let known: FolderScan.Known? =
                    if let file = row["file"] as Data?, let stamps = row["stamps"] as Data? {
                        FolderScan.Known(file: [UInt8](file), stamps: [UInt8](stamps))
                    } else { nil }
                entries[kernel.path] = Entry(kernel: kernel, known: known)
            }
            return entries
        }
    }

    private func replace(
        _ place: String, isReference: Bool, _ before: [[UInt8]: Entry], with found: [Entry], keeping kept: Set<[UInt8]>,
        now: Timestamp
    ) throws(MCFSError) -> IndexReport {
        var report = IndexReport(place: place)
        var gone = before
        for path in kept {
            guard let entry = gone.removeValue(forKey: path) else { continue }
            report.count(entry.kernel)
        }
        try write("record what is in \(place)") { db in
            let upsert = try db.cachedStatement(sql: KernelRow.upsert)
            for entry in found {
                report.count(entry.kernel)
                if let known = gone.removeValue(forKey: entry.kernel.path) {
                    var same = known.kernel
                    (same.hits, same.lastHit) = (entry.kernel.hits, entry.kernel.lastHit)
                    if same != entry.kernel { report.changed += 1 }
                } else {
                    report.added += 1
                }
                try upsert.execute(arguments: KernelRow.arguments(entry.kernel, entry.known))
            }
            report.removed = gone.count
            let delete = try db.cachedStatement(sql: "DELETE FROM kernel WHERE path = ?")
            for path in gone.keys { try delete.execute(arguments: [Data(path)]) }
            try Self.enter(place, isReference: isReference, now, in: db)
        }
        return report
    }

    /// A root that holds others takes their place.
    private static func enter(_ place: String, isReference: Bool, _ now: Timestamp, in db: Database) throws {
        let bytes = Array(place.utf8)
        for row in try Row.fetchAll(db, sql: "SELECT place FROM root WHERE isReference = ?", arguments: [isReference]) {
            let other: String = row[0]
            if other != place, bytes.isAtOrBelow(Array(other.utf8)) { return }
            if Array(other.utf8).isAtOrBelow(bytes) {
                try db.execute(sql: "DELETE FROM root WHERE place = ?", arguments: [other])
            }
        }
        try db.execute(
            sql: "INSERT INTO root (place, isReference, indexed) VALUES (?, ?, ?)",
            arguments: [place, isReference, now.seconds])
    }

    /// Nothing is known of a place any more.
    private func forget(_ place: String) throws(MCFSError) {
        let range = PathRange(place)
        try write("forget \(place)") { db in
            try db.execute(sql: "DELETE FROM kernel WHERE \(range.condition)", arguments: range.arguments)
            try db.execute(sql: "DELETE FROM root WHERE place = ?", arguments: [place])
        }
    }

    // MARK: - Database

    private func read<Value>(_ what: String, _ body: (Database) throws -> Value) throws(MCFSError) -> Value {
        do { return try database.read(body) } catch { throw file.error(error, what) }
    }

    private func write<Value>(_ what: String, _ body: (Database) throws -> Value) throws(MCFSError) -> Value {
        do { return try database.write(body) } catch { throw file.error(error, what) }
    }
}
