package import Logging
package import MCFSCore
package import Transport

/// What a user types for an origin, parsed: `[SUBDIR=]REFERENCE`.
package struct Reference: Sendable {
    /// Where in the mount it stands.
    package var subdirectory: TreePath
    /// Without `SUBDIR=`; a relative folder is made absolute.
    package var text: String

    /// - Parameter directory: what relative folders are relative to.
    /// - Throws: `usage` for an unknown scheme or a malformed reference, with an example of a right one.
    package init(_ text: String, relativeTo directory: String) throws(MCFSError) {
        throw MCFSError(.unsupported, "not written yet")
    }

    /// The origin that serves it. Asks nothing of the network.
    package func origin(environment: Environment, http: HTTPClient, logger: Logger) throws(MCFSError) -> any Origin {
        throw MCFSError(.unsupported, "not written yet")
    }
}
