internal import CLinux
internal import Catalog
internal import Glibc
package import MCFSCore
internal import ModelFormats
internal import Upper

extension Overlay {
    package typealias Caller = MountFS.Caller

    package var isWritable: Bool { true }

    package func open(
        _ node: Node, flags: CInt, copy: OwnedDescriptor?, by caller: Caller, _ body: (MountFS.Opened) -> Void
    ) throws(FileError) {
        var reason: MCFSError?
        do throws(Errno) { try open(node, flags: flags, copy: copy, by: caller, reason: &reason, body) } catch {
            throw reason.map { .content($0) } ?? .errno(error)
        }
    }

    /// A file of the tree that the kernel reads by itself cannot become another one under its readers, so its copy is a file
    /// of its own until they have closed it. In the page cache, all see what is written, and locks and attributes are those of
    /// one file. Weights, and what is too large to be in memory twice, are read by many and written by nobody; what programs
    /// lock and change in place, such as databases, is neither.
    package func mayPassThrough(_ node: Node, bytes: UInt64) -> Bool {
        guard let entry = node.entry(count: tree.count), bytes >= Self.passedThroughBytesMin else { return false }
        // Its copy gets all names at once; the kernel looks up only the one that is written to.
        if hasSeveralNames(node) { return false }
        return bytes >= Self.largeBytes || tree.withName(of: entry) { ModelFormat(fileName: $0) != nil }
    }

    package func isHeldForWriting(_ node: Node, inListing: Bool) -> Bool {
        // A listing holds its folder, and waits for no other.
        let file = try? openDescriptor(of: try upperNode(node), O_RDONLY | O_NONBLOCK, waits: !inListing)
        return file.map { mcfs_is_held_for_writing($0.rawValue) != 0 } ?? true
    }

    private static let passedThroughBytesMin: UInt64 = 1 << 20
    private static let largeBytes: UInt64 = 64 << 20
}

extension UpperObject {
    func dropSetGroupID() throws(Errno) {
        let permissions = UInt16(try status().st_mode & 0o7777)
        if permissions & 0o2000 != 0 { try setPermissions(permissions & ~0o2000) }
    }
}
