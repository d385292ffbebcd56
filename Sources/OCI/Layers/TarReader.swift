package import MCFSCore

/// Lists the entries of an uncompressed tar file that can be read anywhere: an image layout that was packed into one.
package struct TarReader {
    package struct Entry: Hashable, Sendable {
        package var path: TreePath
        /// Where its data begin in the tar, in bytes.
        package var offset: UInt64
        /// Bytes; 0 for anything but a file.
        package var size: UInt64
        package var isFile: Bool
    }

    /// Reads headers only.
    ///
    /// - Parameter size: bytes of `source`.
    /// - Throws: `corrupt` where it is no tar, is cut short, or names a path outside of itself.
    package static func entries(
        of source: any ByteSource, size: UInt64, deadline: Deadline
    ) throws(MCFSError) -> [TarReader.Entry] {
        var scan = TarScan(source, size: size, name: source.name, deadline: deadline)
        var entries: [Entry] = []
        let budget = MetadataBudget()
        while let member = try scan.next() {
            let path: TreePath
            do {
                path = try TreePath(member.name)
            } catch {
                let why = MCFSError.shown(error.message.utf8, bytesMax: 400)
                throw MCFSError(.corrupt, "\(source.name) holds an entry that cannot be used: \(why)")
            }
            try budget.take(
                entries: 1, bytes: 192 + 2 * member.name.count + 64 * path.components.count, of: source.name)
            entries.append(
                Entry(path: path, offset: member.offset, size: member.size, isFile: member.kind == .file))
        }
        return entries
    }
}
