package import Catalog
package import Logging
package import MCFSCore
package import Transport

package final class OCIOrigin: Origin {
    package let reference: String

    /// - Throws: `usage` for a malformed reference.
    package init(_ reference: String, environment: Environment, http: HTTPClient, logger: Logger) throws(MCFSError) {
        self.reference = reference
    }

    package func resolve(deadline: Deadline) throws(MCFSError) -> Catalog.Resolution {
        throw MCFSError(.unsupported, "not written yet")
    }

    package func tree(of resolution: Catalog.Resolution, loading: TreeLoading) throws(MCFSError) -> Tree {
        throw MCFSError(.unsupported, "not written yet")
    }

    package func source(
        _ descriptor: SourceDescriptor, of resolution: Catalog.Resolution
    ) throws(MCFSError) -> any ByteSource {
        throw MCFSError(.unsupported, "not written yet")
    }
}
