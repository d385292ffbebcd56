internal import Catalog
internal import MCFSCore

/// The extended attributes of the product: where an entry comes from, what its content is, how much of it is local, and
/// whether this host can run it. Only files and directories have any: Linux refuses `user.` names on everything else.
extension MountFS {
    package enum ExtendedAttribute: String, Sendable, CaseIterable {
        case origin = "user.mcfs.origin"
        /// `sha256:HEX` or, for content that only Git's SHA-1 is known of, `git:HEX`.
        case digest = "user.mcfs.digest"
        /// Bytes of the file that need no fetch, as a decimal number.
        case local = "user.mcfs.local"
        case verdict = "user.mcfs.verdict"
    }
}

extension LowerTree {
    func value(of attribute: MountFS.ExtendedAttribute, _ entry: Tree.Index) -> [UInt8]? {
        let kind = tree.attributes(of: entry).kind
        guard kind == .file || kind == .directory else { return nil }
        let content = content(of: entry)
        let text: String? =
            switch attribute {
            case .origin:
                if let content, let source = try? sources.source(content.source) {
                    source.name
                } else {
                    origin.isEmpty ? nil : origin
                }
            case .digest:
                switch content?.id.kind {
                case .sha256: content.map { "sha256:\($0.id.bytes.hex)" }
                case .git: content.map { "git:\($0.id.bytes.hex)" }
                case .origin, nil: nil
                }
            case .local:
                if let content {
                    String(store.localBytes(of: content.id, size: content.size))
                } else {
                    kind == .file ? "0" : nil
                }
            case .verdict: view.verdict(of: entry)
            }
        return text.map { Array($0.utf8) }
    }

    func extendedAttributeNames(_ entry: Tree.Index) -> [UInt8] {
        var names: [UInt8] = []
        for attribute in MountFS.ExtendedAttribute.allCases where value(of: attribute, entry) != nil {
            names += attribute.rawValue.utf8
            names.append(0)
        }
        return names
    }
}
