internal import GRDB
internal import LocalDatabase
package import MCFSCore
internal import Synchronization

/// What this node knows of references: which immutable thing each stood for, its tree, the indexes of layers, and what is pinned.
/// Lives in the cache directory (SQLite for the small relations, one file per tree and layer); survives restarts. Thread safe.
package final class Catalog: Sendable {
    /// A reference as it was resolved last.
    package struct Resolution: Sendable, Equatable {
        /// What the user typed.
        package var reference: String
        /// The immutable form, which can be typed back.
        package var resolved: String
        /// Names the tree: equal keys mean equal trees.
        package var treeKey: String
        package init(reference: String, resolved: String, treeKey: String) {
            self.reference = reference
            self.resolved = resolved
            self.treeKey = treeKey
        }
    }

    package struct Pin: Sendable, Equatable {
        package var reference: String
        package var resolved: String
        package var treeKey: String
        /// Globs as the user gave them; empty: everything.
        package var include: [String]
        package var exclude: [String]
        package init(reference: String, resolved: String, treeKey: String, include: [String], exclude: [String]) {
            self.reference = reference
            self.resolved = resolved
            self.treeKey = treeKey
            self.include = include
            self.exclude = exclude
        }
    }

    /// Bounds of what is kept; beyond them the least recently used goes.
    package static let treesMax = 64
    package static let layersMax = 1024
    package static let resolutionsMax = 4096

    private let file: DatabaseFile
    private let database: DatabaseQueue
    private let trees: RecordFolder
    private let layers: RecordFolder
    private let state: Lock<State>

    private struct State {
        var warnings: [String]
        var treesInUse: Set<String> = []
    }

    /// - Throws: `configuration` where a newer mcfs made the database, `localIO`, `noSpace`, `cannotCreate`, `busy`;
    ///   `corrupt` never: a database that cannot be read is set aside with a message in `warnings` and made anew.
    package init(directory: String) throws(MCFSError) {
        try makeDirectory(directory)
        trees = try RecordFolder(directory: "\(directory)/trees", suffix: ".tree")
        layers = try RecordFolder(directory: "\(directory)/layers", suffix: ".layer")
        file = CatalogDatabase.file("\(directory)/catalog.db")
        let opened = try file.open()
        database = opened.queue
        let mended = try FirstLayerFormat.mend(layers: layers, trees: trees)
        state = Lock(State(warnings: opened.warnings + mended))
    }

    /// What was found damaged since the start, one sentence each; at most 100.
    package var warnings: [String] { state.withLock { $0.warnings } }

    // MARK: - Resolutions

    package func record(_ resolution: Resolution) throws(MCFSError) {
        try write("record what \(resolution.reference) stands for") { db in
            try db.execute(
                sql: """
                    INSERT OR REPLACE INTO resolution (reference, resolved, treeKey, sequence)
                    VALUES (?, ?, ?, (SELECT IFNULL(MAX(sequence), 0) + 1 FROM resolution))
                    """,
                arguments: [resolution.reference, resolution.resolved, resolution.treeKey])
            try db.execute(
                sql: "DELETE FROM resolution WHERE sequence <= (SELECT MAX(sequence) FROM resolution) - ?",
                arguments: [Self.resolutionsMax])
        }
    }

    /// The last resolution of what the user types; also found by its resolved form.
    package func resolution(of reference: String) throws(MCFSError) -> Resolution? {
        try read("look up \(reference)") { db in
            try Row.fetchOne(
                db,
                sql: """
                    SELECT reference, resolved, treeKey FROM resolution WHERE reference = ? OR resolved = ?
                    ORDER BY sequence DESC LIMIT 1
                    """,
                arguments: [reference, reference]
            ).map { Resolution(reference: $0[0], resolved: $0[1], treeKey: $0[2]) }
        }
    }

    /// All that are kept, oldest first.
    package func resolutions() throws(MCFSError) -> [Resolution] {
        try read("list what is known") { db in
            try Row.fetchAll(db, sql: "SELECT reference, resolved, treeKey FROM resolution ORDER BY sequence").map {
                Resolution(reference: $0[0], resolved: $0[1], treeKey: $0[2])
            }
        }
    }

    // MARK: - Trees and layers

    /// nil where it is not known or was damaged; the damaged file is removed with a message in `warnings`.
    package func tree(_ key: String) throws(MCFSError) -> Tree? {
        try load(from: trees, treeName(key), "tree of \(key)", Tree.deserialize)
    }

    package func save(_ tree: Tree, key: String) throws(MCFSError) {
        try trees.write(tree.serialized(), treeName(key))
        try pruneTrees(keeping: key)
    }

    /// Names the trees that mounts use: these are never pruned. Replaces the names given before.
    package func keepTrees(_ keys: Set<String>) throws(MCFSError) {
        state.withLock { $0.treesInUse = keys }
        try pruneTrees(keeping: nil)
    }

    private func pruneTrees(keeping key: String?) throws(MCFSError) {
        var keys = state.withLock { $0.treesInUse }
        for pin in try pins() { keys.insert(pin.treeKey) }
        if let key { keys.insert(key) }
        try trees.prune(to: Self.treesMax, keeping: Set(keys.map(treeName)))
    }

    /// What a layer holds, by its digest, as `saveLayer` got it. nil where it is not known or not readable.
    package func layer(_ digest: Digest) throws(MCFSError) -> LayerTable? {
        try load(from: layers, layerName(digest), "index of layer \(digest)", LayerFile.deserialize)
    }

    package func saveLayer(_ digest: Digest, _ table: LayerTable) throws(MCFSError) {
        try layers.write(LayerFile.serialize(table), layerName(digest))
        try layers.prune(to: Self.layersMax, keeping: [layerName(digest)])
    }

    private func treeName(_ key: String) -> String { Digest.sha256(of: key.utf8).hex }

    private func layerName(_ digest: Digest) -> String { "\(digest.algorithm.rawValue)-\(digest.hex)" }

    private func load<Value>(
        from folder: RecordFolder, _ name: String, _ what: String,
        _ deserialize: (UnsafeRawBufferPointer) throws(MCFSError) -> Value
    ) throws(MCFSError) -> Value? {
        guard let bytes = try folder.read(name) else { return nil }
        // Typed throws do not pass through withUnsafeBytes.
        let result = bytes.withUnsafeBytes { bytes in
            Result { () throws(MCFSError) -> Value in try deserialize(bytes) }
        }
        switch result {
        case .success(let value): return value
        case .failure(let error):
            folder.remove(name)
            warn("the \(what) was thrown away and will be read from its origin again: \(error.message)")
            return nil
        }
    }

    private func warn(_ message: String) {
        state.withLock { state in
            if state.warnings.count < 100 { state.warnings.append(message) }
        }
    }

    // MARK: - Pins

    /// Oldest first.
    package func pins() throws(MCFSError) -> [Pin] {
        try read("list the pins") { db in
            try Row.fetchAll(
                db, sql: "SELECT reference, resolved, treeKey, include, exclude FROM pin ORDER BY rowid"
            ).map {
                Pin(
                    reference: $0[0], resolved: $0[1], treeKey: $0[2], include: globs($0[3]), exclude: globs($0[4]))
            }
        }
    }

    /// The same pin twice is one.
    package func add(_ pin: Pin) throws(MCFSError) {
        try write("pin \(pin.reference)") { db in
            try db.execute(
                sql: """
                    INSERT OR REPLACE INTO pin (reference, resolved, treeKey, include, exclude) VALUES (?, ?, ?, ?, ?)
                    """,
                arguments: [pin.reference, pin.resolved, pin.treeKey, packed(pin.include), packed(pin.exclude)])
        }
    }

    /// Removes the pins of what the user typed, or of a resolved form.
    ///
    /// - Returns: whether there was one.
    package func removePins(reference: String) throws(MCFSError) -> Bool {
        try write("unpin \(reference)") { db in
            try db.execute(
                sql: "DELETE FROM pin WHERE reference = ? OR resolved = ?", arguments: [reference, reference])
            return db.changesCount > 0
        }
    }

    // MARK: - Database

    func read<Value>(_ what: String, _ body: (Database) throws -> Value) throws(MCFSError) -> Value {
        do { return try database.read(body) } catch { throw file.error(error, what) }
    }

    func write<Value>(_ what: String, _ body: (Database) throws -> Value) throws(MCFSError) -> Value {
        do { return try database.write(body) } catch { throw file.error(error, what) }
    }
}

/// Each glob as hex digits and a full stop: globs may hold any separator.
private func packed(_ globs: [String]) -> String { globs.map { $0.utf8.hex + "." }.joined() }

private func globs(_ text: String) -> [String] {
    text.split(separator: ".", omittingEmptySubsequences: false).dropLast().map { part in
        String(decoding: [UInt8](hex: part) ?? [], as: UTF8.self)
    }
}
