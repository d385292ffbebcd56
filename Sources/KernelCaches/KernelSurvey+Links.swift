package import Catalog
package import MCFSCore

/// A snapshot of NIM is a folder of links: the bytes of an engine lie in `blobs`, beside all snapshots of its model.
extension KernelSurvey {
    /// Files that links in hidden engines of NIM lead to, and no link of another snapshot of the same model.
    package func filesNamedOnly(byHidden hidden: Bitmap) -> Set<Tree.Index> {
        var found: Set<Tree.Index> = []
        for entry in entries where entry.kind == .nim && hidden[Int(entry.directory)] {
            for link in tree.links(below: entry.directory) { if let file = tree.file(of: link) { found.insert(file) } }
        }
        if found.isEmpty { return [] }
        let snapshots = Set(entries.lazy.filter { $0.kind == .nim }.map { tree.parent(of: $0.directory) })
        for shown in snapshots.flatMap({ tree.children(of: $0) }) where !hidden[Int(shown)] && tree.isDirectory(shown) {
            for link in tree.links(below: shown) { if let file = tree.file(of: link) { found.remove(file) } }
        }
        return found
    }
}

extension Tree {
    fileprivate func links(below directory: Index) -> [Index] {
        children(of: directory).flatMap { child -> [Index] in
            switch attributes(of: child).kind {
            case .symlink: [child]
            case .directory: links(below: child)
            default: []
            }
        }
    }

    /// What a relative link says by its words: nil for one that leads through another link, or to no file of the tree.
    fileprivate func file(of link: Index) -> Index? {
        let target = target(of: link)
        if target.first == UInt8(ascii: "/") { return nil }
        var place = parent(of: link)
        for name in target.split(separator: UInt8(ascii: "/")) where !name.elementsEqual(".".utf8) {
            if name.elementsEqual("..".utf8) {
                if place == Self.root { return nil }
                place = parent(of: place)
            } else {
                guard isDirectory(place), let next = name.withUnsafeBytes({ lookup($0, in: place) }) else { return nil }
                place = next
            }
        }
        return attributes(of: place).kind == .file ? inode(of: place) : nil
    }
}
