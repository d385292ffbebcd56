internal import Catalog
internal import Glibc
internal import MCFSCore

/// The files of a tree that nobody can write to. Immutable but for what is open.
///
/// Numbers of nodes follow from the tree: there are no look-ups to count.
final class TreeFiles: MountedFiles {
    private let lower: LowerTree
    private let openFiles: OpenFiles

    init(_ lower: LowerTree, _ openFiles: OpenFiles) {
        self.lower = lower
        self.openFiles = openFiles
    }

    var isWritable: Bool { false }

    private var tree: Tree { lower.tree }

    private func entry(of node: Node) throws(Errno) -> Tree.Index {
        guard let entry = node.entry(count: tree.count) else { throw .noEntry }
        return entry
    }

    // MARK: Names

    func lookup(_ name: UnsafeRawBufferPointer, in directory: Node) throws(Errno) -> NodeAttributes? {
        let parent = try entry(of: directory)
        guard let entry = lower.lookup(name, in: parent) else {
            lower.view.missed(name, in: tree.path(of: parent))
            return nil
        }
        return lower.attributes(of: entry)
    }

    func forget(_ node: Node, _ count: UInt64) -> Bool { false }

    func attributes(of node: Node) throws(Errno) -> NodeAttributes { lower.attributes(of: try entry(of: node)) }

    func readLink(_ node: Node) throws(Errno) -> [UInt8] {
        let entry = try entry(of: node)
        guard tree.attributes(of: entry).kind == .symlink else { throw .invalid }
        return tree.target(of: entry)
    }

    func usage() throws(Errno) -> statvfs {
        let usage = lower.usage
        var result = statvfs()
        result.f_bsize = 4096
        result.f_frsize = 4096
        result.f_blocks = UInt(usage.bytes / 4096 + (usage.bytes % 4096 == 0 ? 0 : 1))
        result.f_files = UInt(usage.entries)
        result.f_namemax = UInt(TreePath.nameBytesMax)
        return result
    }

    func shown(at path: TreePath) throws(Errno) -> MountFS.Shown {
        var entry = Tree.root
        for name in path.components {
            guard let child = name.withUnsafeBytes({ tree.lookup($0, in: entry) }) else { return .nothing }
            if lower.view.hides(child) { return .hidden(child) }
            entry = child
        }
        return .tree(entry)
    }

    // MARK: Directories

    func openDirectory(_ node: Node) throws(Errno) -> UInt64 { 0 }

    func closeDirectory(_ listing: UInt64) {}

    /// Positions: 0 is before ".", 1 before "..", i + 2 before child i. They follow from the tree alone, so a listing can go
    /// on after any pause, and from another server of the same tree.
    func list(
        _ listing: UInt64, _ node: Node, from position: UInt64, withAttributes: Bool,
        _ body: (UnsafeRawBufferPointer, MountFS.DirectoryEntry) -> Bool
    ) throws(Errno) {
        let entry = try entry(of: node)
        guard tree.attributes(of: entry).kind == .directory else { throw .notDirectory }
        let children = tree.children(of: entry)
        var position = position
        while position < UInt64(children.count) + 2 {
            let isDot = position < 2
            let shown: Tree.Index =
                switch position {
                case 0: entry
                case 1: entry == Tree.root ? entry : tree.parent(of: entry)
                default: children.lowerBound + Tree.Index(position - 2)
                }
            position += 1
            if !isDot && lower.view.hides(shown) { continue }
            let found = MountFS.DirectoryEntry(
                attributes: lower.attributes(of: shown), nextPosition: position, isDot: isDot)
            let isTaken =
                isDot
                ? ([UInt8](repeating: UInt8(ascii: "."), count: Int(position))).withUnsafeBytes { body($0, found) }
                : tree.withName(of: shown) { body($0, found) }
            if !isTaken { return }
        }
    }

    // MARK: Extended attributes

    func extendedAttribute(_ name: [UInt8], of node: Node) throws(Errno) -> [UInt8] {
        // No access control lists, capabilities or labels: `ls` asks no more after this answer.
        guard name.starts(with: "user.".utf8) else { throw .notSupported }
        guard let attribute = MountFS.ExtendedAttribute(rawValue: String(decoding: name, as: UTF8.self)),
            let value = lower.value(of: attribute, try entry(of: node))
        else { throw .noAttribute }
        return value
    }

    func extendedAttributeNames(of node: Node, for caller: MountFS.Caller) throws(Errno) -> [UInt8] {
        lower.extendedAttributeNames(try entry(of: node))
    }

    // MARK: Open files

    func open(
        _ node: Node, flags: CInt, copy: OwnedDescriptor?, by caller: MountFS.Caller, _ body: (MountFS.Opened) -> Void
    ) throws(FileError) {
        guard flags & (O_ACCMODE | O_TRUNC) == O_RDONLY else { throw .errno(.readOnly) }
        guard let entry = node.entry(count: tree.count) else { throw .errno(.noEntry) }
        guard let content = lower.content(of: entry) else { return body(.empty) }
        tree.withName(of: entry) { lower.view.opened($0, in: tree.path(of: tree.parent(of: entry))) }
        let opened: OpenContent
        do throws(MCFSError) {
            opened = try openFiles.open(node.number) { () throws(MCFSError) in try lower.opened(entry, content) }
        } catch { throw .content(error) }
        body(opened.opened)
    }

    /// Small files are better off in the page cache: opening them again costs no more than the request.
    func mayPassThrough(_ node: Node, bytes: UInt64) -> Bool { bytes >= MountFS.smallBytes }

    func isHeldForWriting(_ node: Node, inListing: Bool) -> Bool { false }

    // MARK: Changes

    // The kernel refuses them by itself, until somebody mounts it anew with `rw`.

    func mustCopyUp(_ node: Node) -> Bool { false }
    func mustCopyUp(_ node: Node, for change: AttributeChange) -> Bool { false }
    func mustCopyUp(_ node: Node, forAttribute name: [UInt8], size: Int) -> Bool { false }
    func isCopiedAtOnce(_ node: Node, size: UInt64?) -> Bool { true }

    func copyUp(
        _ node: Node, with change: AttributeChange?, by caller: MountFS.Caller, keepsNode: () -> Bool,
        isCancelled: @escaping () -> Bool
    ) throws(FileError) -> OwnedDescriptor? { throw .errno(.readOnly) }

    func attributes(ofUpper node: Node) throws(Errno) -> NodeAttributes { throw .readOnly }

    func make(_ making: Making, _ name: [UInt8], in parent: Node, by caller: MountFS.Caller) throws(Errno)
        -> NodeAttributes
    {
        throw .readOnly
    }

    func create(
        _ name: [UInt8], permissions: UInt16, in parent: Node, by caller: MountFS.Caller
    ) throws(Errno) -> (attributes: NodeAttributes, file: OwnedDescriptor) { throw .readOnly }

    func createUnnamed(
        permissions: UInt16, in parent: Node, by caller: MountFS.Caller
    ) throws(Errno) -> (attributes: NodeAttributes, file: OwnedDescriptor) { throw .readOnly }

    func link(_ node: Node, _ name: [UInt8], in parent: Node) throws(Errno) -> NodeAttributes { throw .readOnly }

    func remove(_ name: [UInt8], in parent: Node, isDirectory: Bool) throws(Errno) { throw .readOnly }

    func rename(
        _ name: [UInt8], in parent: Node, to newName: [UInt8], in newParent: Node, flags: UInt32
    ) throws(Errno) -> Node? { throw .readOnly }

    func write(
        _ node: Node, _ bytes: UnsafeRawBufferPointer, at offset: UInt64, by caller: MountFS.Caller
    ) throws(Errno) -> Int { throw .readOnly }

    func allocate(_ node: Node, mode: CInt, offset: Int64, length: Int64, by caller: MountFS.Caller) throws(Errno) {
        throw .readOnly
    }

    func copy(
        _ from: Node, at fromOffset: Int64, to: Node, at toOffset: Int64, count: Int, by caller: MountFS.Caller
    ) throws(Errno) -> Int { throw .readOnly }

    func change(_ node: Node, _ change: AttributeChange, by caller: MountFS.Caller) throws(Errno) -> NodeAttributes {
        throw .readOnly
    }

    func setExtendedAttribute(
        _ name: [UInt8], _ value: UnsafeRawBufferPointer, flags: CInt, of node: Node, dropsSetGroupID: Bool
    ) throws(Errno) { throw .readOnly }

    func removeExtendedAttribute(_ name: [UInt8], of node: Node) throws(Errno) { throw .readOnly }

    // The kernel takes these as "never ask again": there is nothing to sync, and it seeks by the size alone.

    func seek(_ node: Node, to offset: Int64, whence: CInt) throws(Errno) -> Int64 { throw .notImplemented }
    func sync(_ node: Node, handle: UInt64, dataOnly: Bool) throws(Errno) { throw .notImplemented }
    func syncDirectory(_ node: Node) throws(Errno) { throw .notImplemented }
}

extension Errno {
    static let readOnly = Errno(rawValue: EROFS)
    static let notSupported = Errno(rawValue: EOPNOTSUPP)
    static let notImplemented = Errno(rawValue: ENOSYS)
}
