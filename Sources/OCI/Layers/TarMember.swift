internal import MCFSCore

/// An entry of a tar with its extended records applied. Names are as the tar has them: not yet checked.
struct TarMember: Equatable {
    enum Kind: Equatable { case file, directory, symlink, hardLink, fifo, characterDevice, blockDevice }

    var kind: Kind
    var name: [UInt8]
    /// Of symbolic and hard links.
    var linkName: [UInt8]
    /// Where its data begin in the tar, in bytes.
    var offset: UInt64
    /// Bytes of its data; 0 for anything but a file.
    var size: UInt64
    var permissions: UInt16
    var uid: UInt32
    var gid: UInt32
    var modified: Timestamp
    var deviceMajor: UInt32
    var deviceMinor: UInt32

    /// What its name ends with, without the directories before it.
    var lastComponent: ArraySlice<UInt8> {
        name.lastIndex(of: UInt8(ascii: "/")).map { name[($0 + 1)...] } ?? name[...]
    }
}
