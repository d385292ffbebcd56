package import MCFSCore

/// The entries that a resolved reference presents. Immutable; thread safe; O(log n) lookups.
///
/// Entries are numbered breadth first, the children of a directory in a row and sorted by name (as bytes), so that an
/// entry's number follows from the resolved tree alone. The root is entry 0.
package final class Tree: Sendable {
    package typealias Index = UInt32

    package enum Kind: UInt8, Sendable { case directory, file, symlink, fifo, characterDevice, blockDevice }

    package struct Attributes: Sendable {
        package var kind: Kind
        package var permissions: UInt16
        package var uid: UInt32
        package var gid: UInt32
        package var modified: Timestamp
        /// Bytes of a file; length of a link's target; 0 else.
        package var size: UInt64
        package var linkCount: UInt32
        /// Device numbers of a device, as `makedev` packs them.
        package var device: UInt64
    }

    package static let root: Index = 0
    package var count: Int { 0 }
    package let sources: [SourceDescriptor]

    init() { sources = [] }

    package func attributes(of entry: Index) -> Attributes { preconditionFailure("not written yet") }
    /// The entry that stands for all hard links of a file; the entry itself elsewhere. Inode numbers derive from it.
    package func inode(of entry: Index) -> Index { preconditionFailure("not written yet") }
    package func parent(of entry: Index) -> Index { preconditionFailure("not written yet") }
    /// Empty for anything but a directory.
    package func children(of directory: Index) -> Range<Index> { preconditionFailure("not written yet") }
    /// No allocation.
    package func lookup(_ name: UnsafeRawBufferPointer, in directory: Index) -> Index? { preconditionFailure("not written yet") }
    package func withName<R>(of entry: Index, _ body: (UnsafeRawBufferPointer) -> R) -> R { preconditionFailure("not written yet") }
    package func target(of symlink: Index) -> [UInt8] { preconditionFailure("not written yet") }
    package func content(of file: Index) -> Content? { preconditionFailure("not written yet") }
    package func path(of entry: Index) -> TreePath { preconditionFailure("not written yet") }
    package func entry(at path: TreePath) -> Index? { preconditionFailure("not written yet") }
    /// Every distinct content once.
    package var contents: [Content] { preconditionFailure("not written yet") }
    /// Which contents lie where in one of `sources`.
    package func layout(ofSource source: Int) -> any SourceLayout { preconditionFailure("not written yet") }

    /// The file format of docs/cache-format.md#trees.
    package func serialized() -> [UInt8] { preconditionFailure("not written yet") }
    /// - Throws: `corrupt` for anything that `serialized` cannot have written.
    package static func deserialize(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) -> Tree { preconditionFailure("not written yet") }
}
