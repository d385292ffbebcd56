package import Glibc
package import MCFSCore

/// The files of a mount, as the kernel asks for them by the numbers of nodes. There are two kinds: `TreeFiles`, a tree that
/// nobody can write to, and `Overlay`, a tree under an upper.
///
/// Thread safe. No call waits for the network but `copyUp`. Errors are what the caller shall see, and what is wrong with
/// the bytes of a file where that is the reason (`FileError`).
package protocol MountedFiles: AnyObject, Sendable {
    /// Whether anything can be changed: the same for the life of the mount.
    var isWritable: Bool { get }

    // MARK: Names

    /// nil where the directory has no such name. Counts as one look-up of what is found.
    func lookup(_ name: UnsafeRawBufferPointer, in directory: Node) throws(Errno) -> NodeAttributes?
    /// The kernel has forgotten a node so often. - Returns: whether the node is gone.
    func forget(_ node: Node, _ count: UInt64) -> Bool
    func attributes(of node: Node) throws(Errno) -> NodeAttributes
    func readLink(_ node: Node) throws(Errno) -> [UInt8]
    func usage() throws(Errno) -> statvfs
    /// What shows at a path, for those who ask why.
    func shown(at path: TreePath) throws(Errno) -> MountFS.Shown

    /// - Returns: a number for `list` and `closeDirectory`.
    func openDirectory(_ node: Node) throws(Errno) -> UInt64
    func closeDirectory(_ listing: UInt64)
    /// Gives the entries of an open directory from `position` on to `body`, which returns false to stop: the entry was not
    /// taken then. The name is valid during the call and not terminated.
    ///
    /// Entries that `body` takes with their attributes count as looked up, unless they are "." and "..".
    func list(
        _ listing: UInt64, _ node: Node, from position: UInt64, withAttributes: Bool,
        _ body: (UnsafeRawBufferPointer, MountFS.DirectoryEntry) -> Bool
    ) throws(Errno)

    func extendedAttribute(_ name: [UInt8], of node: Node) throws(Errno) -> [UInt8]
    /// Each ended by NUL, as `listxattr(2)` gives them.
    func extendedAttributeNames(of node: Node, for caller: MountFS.Caller) throws(Errno) -> [UInt8]

    // MARK: Open files

    /// Counts one more open of a file; each is taken back by one `MountFS.release`. What is to be written must be in the
    /// upper: see `mustCopyUp`.
    ///
    /// - Parameters:
    ///   - copy: what `copyUp` has just returned for it.
    ///   - body: gets the file while nothing can make a copy of it. Called once, unless this throws.
    func open(
        _ node: Node, flags: CInt, copy: OwnedDescriptor?, by caller: MountFS.Caller, _ body: (MountFS.Opened) -> Void
    ) throws(FileError)
    /// Whether the kernel may read a file of the tree by itself when all of it is local: nobody gets to see what is written
    /// to it while it is open then. `bytes`: its size.
    func mayPassThrough(_ node: Node, bytes: UInt64) -> Bool
    /// Whether anybody has a file of the upper open or mapped for writing, or may have.
    ///
    /// - Parameter inListing: called by the body of `list`.
    func isHeldForWriting(_ node: Node, inListing: Bool) -> Bool
    /// `lseek(2)` for data and holes.
    func seek(_ node: Node, to offset: Int64, whence: CInt) throws(Errno) -> Int64
    /// - Parameter handle: of the open that asks: each is told once of bytes that could not be written.
    func sync(_ node: Node, handle: UInt64, dataOnly: Bool) throws(Errno)
    func syncDirectory(_ node: Node) throws(Errno)

    // MARK: Copies of what the tree has

    /// Whether a node is a file or a link of the tree that is not in the upper. Never true for directories.
    func mustCopyUp(_ node: Node) -> Bool
    /// Whether a change of its attributes needs a node in the upper.
    func mustCopyUp(_ node: Node, for change: AttributeChange) -> Bool
    /// Whether setting or removing an extended attribute does; `size`: of its value, 0 where it is removed.
    func mustCopyUp(_ node: Node, forAttribute name: [UInt8], size: Int) -> Bool
    /// Whether the copy needs no bytes, so that nobody waits for long.
    func isCopiedAtOnce(_ node: Node, size: UInt64?) -> Bool
    /// Puts a file of the tree into the upper, whole, with all its names. Waits for bytes that are not local: not for a
    /// thread that answers requests, unless `isCopiedAtOnce`.
    ///
    /// A copy that fails leaves everything as it was.
    /// - Parameters:
    ///   - change: what the copy looks like when it shows; a size in it says how many bytes are needed, else all are.
    ///   - keepsNode: called under the lock, right before the copy shows: whether the node may become the copy. If not,
    ///     the copy is another node, and the kernel must look the name up again.
    ///   - isCancelled: asked now and then.
    /// - Returns: the copy, open for reading and writing; nil where somebody else was faster, and then the change was not
    ///   made, or where it is no file.
    func copyUp(
        _ node: Node, with change: AttributeChange?, by caller: MountFS.Caller, keepsNode: () -> Bool,
        isCancelled: @escaping () -> Bool
    ) throws(FileError) -> OwnedDescriptor?
    /// Of a node that was just copied: ESTALE where the copy is another node.
    func attributes(ofUpper node: Node) throws(Errno) -> NodeAttributes

    // MARK: Changes

    func make(_ making: Making, _ name: [UInt8], in parent: Node, by caller: MountFS.Caller) throws(Errno)
        -> NodeAttributes
    /// Makes a file and opens it.
    func create(
        _ name: [UInt8], permissions: UInt16, in parent: Node, by caller: MountFS.Caller
    ) throws(Errno) -> (attributes: NodeAttributes, file: OwnedDescriptor)
    /// Makes a file without a name and opens it (`O_TMPFILE`).
    func createUnnamed(
        permissions: UInt16, in parent: Node, by caller: MountFS.Caller
    ) throws(Errno) -> (attributes: NodeAttributes, file: OwnedDescriptor)
    /// Gives a file one more name. It must be in the upper: see `mustCopyUp`.
    func link(_ node: Node, _ name: [UInt8], in parent: Node) throws(Errno) -> NodeAttributes
    /// - Parameter isDirectory: `rmdir(2)`, else `unlink(2)`.
    func remove(_ name: [UInt8], in parent: Node, isDirectory: Bool) throws(Errno)
    /// - Parameter flags: of renameat2(2).
    /// - Returns: nil where it is done; else the file that must be in the upper before: see `mustCopyUp`.
    func rename(
        _ name: [UInt8], in parent: Node, to newName: [UInt8], in newParent: Node, flags: UInt32
    ) throws(Errno) -> Node?
    /// - Returns: how many bytes were written: fewer where the disk is full.
    func write(
        _ node: Node, _ bytes: UnsafeRawBufferPointer, at offset: UInt64, by caller: MountFS.Caller
    ) throws(Errno) -> Int
    func allocate(_ node: Node, mode: CInt, offset: Int64, length: Int64, by caller: MountFS.Caller) throws(Errno)
    /// - Throws: EXDEV where the kernel shall copy by itself: from a file of the tree.
    func copy(
        _ from: Node, at fromOffset: Int64, to: Node, at toOffset: Int64, count: Int, by caller: MountFS.Caller
    ) throws(Errno) -> Int
    /// A new size needs the file in the upper: see `mustCopyUp`. Owner, mode and times do not.
    func change(_ node: Node, _ change: AttributeChange, by caller: MountFS.Caller) throws(Errno) -> NodeAttributes
    /// - Parameters:
    ///   - flags: `XATTR_CREATE`, `XATTR_REPLACE`.
    ///   - dropsSetGroupID: with an access control list, by who may not keep the bit.
    func setExtendedAttribute(
        _ name: [UInt8], _ value: UnsafeRawBufferPointer, flags: CInt, of node: Node, dropsSetGroupID: Bool
    ) throws(Errno)
    func removeExtendedAttribute(_ name: [UInt8], of node: Node) throws(Errno)
}

/// Why a file cannot be opened or copied.
package enum FileError: Error {
    case errno(Errno)
    /// Its bytes could not be had.
    case content(MCFSError)
}

extension MountFS {
    /// Who asks, as the kernel says.
    package struct Caller: Sendable {
        package var uid: UInt32
        package var gid: UInt32
        /// Bits to take from the mode of what is made.
        package var umask: UInt16

        /// Who has no rights.
        package static let nobody = Caller(uid: 65534, gid: 65534)

        package init(uid: UInt32, gid: UInt32, umask: UInt16 = 0) {
            self.uid = uid
            self.gid = gid
            self.umask = umask
        }
    }
}

/// What `mknod(2)` and its relatives make.
package enum Making: Sendable {
    case directory(permissions: UInt16)
    case symlink(target: [UInt8])
    /// A file, a fifo, a socket or a device: type and permissions.
    case node(mode: UInt32, device: UInt64)
}

/// What `chmod(2)`, `chown(2)`, `truncate(2)` and `utimensat(2)` change; nil: stays.
package struct AttributeChange: Sendable {
    package enum Time: Sendable { case now, at(Timestamp) }

    package var permissions: UInt16?
    package var uid: UInt32?
    package var gid: UInt32?
    package var size: UInt64?
    package var accessed: Time?
    package var modified: Time?

    package init() {}
}
