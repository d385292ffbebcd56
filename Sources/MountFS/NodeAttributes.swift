internal import Catalog
package import MCFSCore

/// What `stat(2)` shows of a node.
package struct NodeAttributes: Sendable {
    package enum Kind: Sendable { case directory, file, symlink, fifo, characterDevice, blockDevice }

    package var node: Node
    package var kind: Kind
    /// Permission, set-id and sticky bits (07777).
    package var permissions: UInt16
    package var linkCount: UInt32
    package var uid: UInt32
    package var gid: UInt32
    /// Bytes.
    package var size: UInt64
    /// Device numbers of a device node, as `makedev` packs them.
    package var device: UInt64
    package var modified: Timestamp
}

extension NodeAttributes.Kind {
    init(_ kind: Tree.Kind) {
        self =
            switch kind {
            case .directory: .directory
            case .file: .file
            case .symlink: .symlink
            case .fifo: .fifo
            case .characterDevice: .characterDevice
            case .blockDevice: .blockDevice
            }
    }
}
