internal import Catalog
internal import Glibc
package import MCFSCore
internal import Synchronization
internal import Upper

/// Listings of directories: taken whole when reading begins, so that entries that come and go in between neither hide
/// nor double another one.
extension Overlay {
    /// A directory that is open.
    final class Listed: Sendable {
        struct Item {
            var name: [UInt8]
            /// `st_ino` and type, as READDIR shows them.
            var inode: UInt64
            var kind: NodeAttributes.Kind
        }

        let items = Lock<[Item]?>(nil)
    }

    /// - Returns: a number for `list` and `closeDirectory`.
    package func openDirectory(_ node: Node) throws(Errno) -> UInt64 {
        _ = try directory(node)
        let number = listingCount.withLock { count in
            count += 1
            return count
        }
        listings.withLock { $0[number] = Listed() }
        return number
    }

    package func closeDirectory(_ number: UInt64) {
        let listed = listings.withLock { $0.removeValue(forKey: number) }
        withExtendedLifetime(listed) {}
    }

    /// As `MountedFiles.list`, of an open directory. Entries that `body` takes with their attributes count as looked up,
    /// unless they are "." and "..".
    package func list(
        _ listing: UInt64, _ node: Node, from position: UInt64, withAttributes: Bool,
        _ body: (UnsafeRawBufferPointer, MountFS.DirectoryEntry) -> Bool
    ) throws(Errno) {
        guard let listed = listings.withLock({ $0[listing] }) else { throw .stale }
        if position == 0 || listed.items.withLock({ $0 == nil }) {
            let items = try lookingAgain { () throws(Errno) in
                try looking(in: node) { (directory) throws(Errno) -> [Listed.Item] in try self.items(of: directory) }
            }
            listed.items.withLock { $0 = items }
        }
        try looking(in: node) { (directory) throws(Errno) in
            let items = listed.items.withLock { $0 ?? [] }
            var position = position
            while position < UInt64(items.count) {
                let item = items[Int(position)]
                position += 1
                var isDot = position <= 2
                var attributes = NodeAttributes(of: item)
                var shown: OverlayNode?
                if withAttributes && !isDot {
                    do throws(Errno) {
                        // Gone meanwhile.
                        guard let found = try find(item.name, in: directory) else { continue }
                        attributes = self.attributes(of: found)
                        if case .upper(let node, _) = found { shown = node }
                    } catch {
                        // It is listed all the same: whoever looks it up gets the error.
                        isDot = true
                    }
                }
                let entry = MountFS.DirectoryEntry(attributes: attributes, nextPosition: position, isDot: isDot)
                guard item.name.withUnsafeBytes({ body($0, entry) }) else {
                    if let shown { nodes.forget(shown.number, 0) }
                    return
                }
                if let shown { nodes.count(shown) }
            }
        }
    }

    private func items(of directory: Directory) throws(Errno) -> [Listed.Item] {
        let own = nodes.node(directory.number)
        if own?.now.isRemoved == true { return [] }
        let parent =
            if let known = own?.now.parent {
                known
            } else {
                Node(entry: tree.parent(of: try entry(of: Node(number: directory.number)))).number
            }
        var items = [
            Listed.Item(name: [UInt8(ascii: ".")], inode: own?.inode ?? directory.number, kind: .directory),
            Listed.Item(name: Array("..".utf8), inode: nodes.node(parent)?.inode ?? parent, kind: .directory),
        ]
        var seen: Set<[UInt8]> = []
        if let folder = directory.folder {
            for entry in try upper.entries(of: folder) {
                let identity = DiskIdentity(device: upper.device, inode: entry.inode)
                var inode = nodes.inode(of: identity)
                var kind = NodeAttributes.Kind(direntType: entry.type)
                if kind == nil || kind == .directory, let found = try find(entry.name, in: directory) {
                    let attributes = attributes(of: found)
                    inode = attributes.inode
                    kind = attributes.kind
                    nodes.forget(attributes.node.number, 0)
                }
                seen.insert(entry.name)
                items.append(Listed.Item(name: entry.name, inode: inode, kind: kind ?? .file))
            }
            for (name, mark) in folder.marks {
                guard case .redirect(let path) = mark, let entry = tree.entry(at: path), seen.insert(name).inserted
                else {
                    continue
                }
                items.append(item(name, entry))
            }
        }
        for child in lower.view.shown(directory.lower.map { tree.children(of: $0) } ?? 0..<0) {
            let name = tree.withName(of: child) { Array($0) }
            if seen.contains(name) || directory.folder?.mark(name) != nil || isHidden(name, in: directory) { continue }
            items.append(item(name, child))
        }
        return items
    }

    private func item(_ name: [UInt8], _ entry: Tree.Index) -> Listed.Item {
        Listed.Item(
            name: name, inode: Node(entry: tree.inode(of: entry)).number,
            kind: NodeAttributes.Kind(tree.attributes(of: entry).kind))
    }
}

extension NodeAttributes {
    /// Enough for READDIR.
    fileprivate init(of item: Overlay.Listed.Item) {
        let none = Timestamp(seconds: 0)
        self.init(
            node: Node(number: item.inode), inode: item.inode, kind: item.kind, permissions: 0, linkCount: 1, uid: 0,
            gid: 0, size: 0, blocks: 0, device: 0, accessed: none, modified: none, changed: none)
    }
}

extension NodeAttributes.Kind {
    /// nil where the disk does not say.
    fileprivate init?(direntType: UInt8) {
        switch Int(direntType) {
        case Int(DT_DIR): self = .directory
        case Int(DT_REG): self = .file
        case Int(DT_LNK): self = .symlink
        case Int(DT_FIFO): self = .fifo
        case Int(DT_SOCK): self = .socket
        case Int(DT_CHR): self = .characterDevice
        case Int(DT_BLK): self = .blockDevice
        default: return nil
        }
    }
}
