internal import Catalog
internal import CLinux
internal import Glibc
package import MCFSCore
internal import Upper

/// Extended attributes: those of the product are told, never set; all others are the upper's, or kept aside for files of
/// the tree.
extension Overlay {
    private static let own = Array("user.mcfs.".utf8)
    private static let forRoot = Array("trusted.".utf8)
    private static let accessLists = Array("system.posix_acl_".utf8)

    package func extendedAttribute(_ name: [UInt8], of node: Node) throws(Errno) -> [UInt8] {
        if name.starts(with: Self.own) {
            guard let value = try productAttribute(name, node) else { throw .noAttribute }
            return value
        }
        if let known = nodes.node(node.number), known.now.isUpper {
            return try object(of: known).extendedAttribute(name)
        }
        try checkNamespace(name)
        let value = lower.metadata(of: try entry(of: node))?.extendedAttributes[name]
        if let known = nodes.node(node.number), known.now.isUpper {
            return try object(of: known).extendedAttribute(name)
        }
        guard let value else { throw .noAttribute }
        return value
    }

    /// Linux knows these, and no others.
    private func checkNamespace(_ name: [UInt8]) throws(Errno) {
        let known = ["user.", "trusted.", "security.", "system.posix_acl_"]
        guard let prefix = known.first(where: { name.starts(with: $0.utf8) }) else { throw Errno(rawValue: EOPNOTSUPP) }
        if name.count == prefix.utf8.count { throw .invalid }
    }

    private func productAttribute(_ name: [UInt8], _ node: Node) throws(Errno) -> [UInt8]? {
        guard let attribute = MountFS.ExtendedAttribute(rawValue: String(decoding: name, as: UTF8.self)) else {
            return nil
        }
        guard let known = nodes.node(node.number), known.now.isUpper else {
            return lower.value(of: attribute, try entry(of: node))
        }
        if let entry = known.now.shown { return lower.value(of: attribute, entry) }
        let attributes = try attributes(of: node)
        guard attributes.kind == .file || attributes.kind == .directory else { return nil }
        switch attribute {
        case .origin: return Array("upper".utf8)
        case .digest: return nil
        case .local: return attributes.kind == .file ? Array(String(attributes.size).utf8) : nil
        case .verdict: return Array("any".utf8)
        }
    }

    /// Each ended by NUL. Those of the product can be read and are not listed: who copies files with their attributes
    /// would carry them along.
    package func extendedAttributeNames(of node: Node, for caller: Caller) throws(Errno) -> [UInt8] {
        var names: [UInt8] = []
        if let known = nodes.node(node.number), known.now.isUpper {
            for name in try object(of: known).extendedAttributeNames().split(separator: 0)
            where !name.starts(with: Self.own) && (caller.uid == 0 || !name.starts(with: Self.forRoot)) {
                names += name + [0]
            }
            return names
        }
        let kept = lower.metadata(of: try entry(of: node))?.extendedAttributes.keys.map { $0 } ?? []
        for name in kept.sorted(by: { $0.lexicographicallyPrecedes($1) }) { names += name + [0] }
        return names
    }

    /// Whether setting or removing the attribute needs the node in the upper: see `mustCopyUp`.
    ///
    /// - Parameter size: bytes of its value, 0 where it is removed.
    package func mustCopyUp(_ node: Node, forAttribute name: [UInt8], size: Int) -> Bool {
        guard mustCopyUp(node), let entry = node.entry(count: tree.count) else { return false }
        if tree.attributes(of: entry).kind != .file { return true }
        // A list changes the mode, and the mode the list: the disk knows how. A capability goes with the owner of the file.
        if name.starts(with: Self.accessLists) || name == Self.capability { return true }
        // Whether there is room for many is for the disk to say.
        let kept = lower.metadata(of: entry)?.extendedAttributes ?? [:]
        return kept.reduce(name.count + size) { $0 + $1.key.count + $1.value.count } > Self.keptBytesMax
    }

    private static let capability = Array("security.capability".utf8)
    /// Of all attributes of a file of the tree that are kept aside: any disk has room for so much.
    private static let keptBytesMax = 2048

    /// - Parameter flags: `XATTR_CREATE`, `XATTR_REPLACE`.
    package func setExtendedAttribute(
        _ name: [UInt8], _ value: UnsafeRawBufferPointer, flags: CInt, of node: Node, dropsSetGroupID: Bool
    ) throws(Errno) {
        try changeAttribute(name, of: node) { (object) throws(Errno) in
            try object.setExtendedAttribute(name, value, flags: flags)
            if dropsSetGroupID && name == Self.accessLists + "access".utf8 { try object.dropSetGroupID() }
        } kept: { (attributes) throws(Errno) in
            if flags & mcfs_xattr_create != 0, attributes[name] != nil { throw .exists }
            if flags & mcfs_xattr_replace != 0, attributes[name] == nil { throw .noAttribute }
            attributes[name] = Array(value)
        }
    }

    package func removeExtendedAttribute(_ name: [UInt8], of node: Node) throws(Errno) {
        try changeAttribute(name, of: node) { (object) throws(Errno) in
            try object.removeExtendedAttribute(name)
        } kept: { (attributes) throws(Errno) in
            guard attributes.removeValue(forKey: name) != nil else { throw .noAttribute }
        }
    }

    private func changeAttribute(
        _ name: [UInt8], of node: Node, _ change: (UpperObject) throws(Errno) -> Void,
        kept: (inout [[UInt8]: [UInt8]]) throws(Errno) -> Void
    ) throws(Errno) {
        if name.starts(with: Self.own) { throw .notPermitted }
        try changing(node) { () throws(Errno) in
            if let known = nodes.node(node.number), known.now.isUpper {
                try upper.settle()
                known.now.folder?.hasDefaultAccessList = nil
                return try change(try object(of: known))
            }
            let entry = try entry(of: node)
            switch tree.attributes(of: entry).kind {
            case .directory where !lower.isNameless(entry):
                try makeFolder(node).hasDefaultAccessList = nil
                try change(try object(of: try upperNode(node)))
            case .file, .directory:
                if name.starts(with: Self.accessLists) { throw .stale }
                try checkNamespace(name)
                try updateMetadata(of: entry) { (metadata) throws(Errno) in try kept(&metadata.extendedAttributes) }
            case .symlink, .fifo, .characterDevice, .blockDevice: throw .stale
            }
        }
    }
}
