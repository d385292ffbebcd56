internal import Catalog
package import MCFSCore

/// What `stat(2)` shows of a node.
package struct NodeAttributes: Sendable {
    package enum Kind: Sendable { case directory, file, symlink, fifo, characterDevice, blockDevice, socket }

    package var node: Node
    /// `st_ino`: stays when the node behind it changes.
    package var inode: UInt64
    package var kind: Kind
    /// Permission, set-id and sticky bits (07777).
    package var permissions: UInt16
    package var linkCount: UInt32
    package var uid: UInt32
    package var gid: UInt32
    /// Bytes.
    package var size: UInt64
    /// Blocks of 512 bytes.
    package var blocks: UInt64
    /// Device numbers of a device node, as `makedev` packs them.
    package var device: UInt64
    package var accessed: Timestamp
    package var modified: Timestamp
    package var changed: Timestamp
    /// Whether it stands in the upper.
    package var isUpper = false
    /// Tells who has the number now from who had it before.
    package var generation: UInt64 = 0
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
