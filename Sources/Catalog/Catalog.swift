package import MCFSCore

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

    /// - Throws: `corrupt` never: a database that cannot be read is set aside with a message in `warnings` and made anew.
    package init(directory: String) throws(MCFSError) {}

    package func record(_ resolution: Resolution) throws(MCFSError) {}
    /// The last resolution of what the user types; also found by its resolved form.
    package func resolution(of reference: String) throws(MCFSError) -> Resolution? { nil }

    package func tree(_ key: String) throws(MCFSError) -> Tree? { nil }
    package func save(_ tree: Tree, key: String) throws(MCFSError) {}

    /// The entries of a layer by its digest, as `saveLayer` got them. nil where it is not known or not readable.
    package func layer(_ digest: Digest) throws(MCFSError) -> [TreeEntry]? { nil }
    package func saveLayer(_ digest: Digest, _ entries: [TreeEntry]) throws(MCFSError) {}

    package func pins() throws(MCFSError) -> [Pin] { [] }
    package func add(_ pin: Pin) throws(MCFSError) {}
    /// - Returns: whether there was one.
    package func removePins(reference: String) throws(MCFSError) -> Bool { false }
}
