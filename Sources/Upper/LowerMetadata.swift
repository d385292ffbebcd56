package import MCFSCore

/// What was changed of a file of the tree whose bytes were not: its owner, its mode, its times, its extended attributes.
/// nil: as the tree has it.
package struct LowerMetadata: Hashable, Sendable {
    package var permissions: UInt16?
    package var uid: UInt32?
    package var gid: UInt32?
    package var accessed: Timestamp?
    package var modified: Timestamp?
    package var changed: Timestamp?
    /// Names that the file has left, of several.
    package var linkCount: UInt32?
    package var extendedAttributes: [[UInt8]: [UInt8]] = [:]

    package init() {}
}
