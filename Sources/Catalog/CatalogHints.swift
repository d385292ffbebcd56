internal import Synchronization
package import MCFSCore

/// The catalog for who can do without it, because an origin is at hand: what cannot be read is not known, what cannot be written is
/// not kept. The first failure is told, the others have its reason. Thread safe.
package final class CatalogHints: Sendable {
    private let catalog: Catalog
    private let hasFailed = Atomic(false)
    private let failed: @Sendable (MCFSError) -> Void

    /// - Parameter failed: called once at most, on the thread that met the failure.
    package init(_ catalog: Catalog, failed: @escaping @Sendable (MCFSError) -> Void) {
        self.catalog = catalog
        self.failed = failed
    }

    package func resolution(of reference: String) -> Catalog.Resolution? {
        attempt { () throws(MCFSError) in try catalog.resolution(of: reference) } ?? nil
    }

    package func record(_ resolution: Catalog.Resolution) {
        attempt { () throws(MCFSError) in try catalog.record(resolution) }
    }

    package func tree(_ key: String) -> Tree? {
        attempt { () throws(MCFSError) in try catalog.tree(key) } ?? nil
    }

    package func save(_ tree: Tree, key: String) {
        attempt { () throws(MCFSError) in try catalog.save(tree, key: key) }
    }

    package func layer(_ digest: Digest) -> LayerTable? {
        attempt { () throws(MCFSError) in try catalog.layer(digest) } ?? nil
    }

    package func saveLayer(_ digest: Digest, _ table: LayerTable) {
        attempt { () throws(MCFSError) in try catalog.saveLayer(digest, table) }
    }

    @discardableResult
    private func attempt<Value>(_ body: () throws(MCFSError) -> Value) -> Value? {
        do throws(MCFSError) { return try body() } catch {
            if !hasFailed.exchange(true, ordering: .relaxed) { failed(error) }
            return nil
        }
    }
}
