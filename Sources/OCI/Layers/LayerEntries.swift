internal import MCFSCore

/// Collects what the members of a layer's tar stand for in its table of contents: image-spec's whiteouts, opaque
/// directories, and paths that are known to stay inside the layer.
struct LayerEntries {
    /// Nobody could open a longer path, or read a longer link.
    static let pathBytesMax = TreePath.bytesMax

    private let name: String
    private let digest: Digest
    private let budget: MetadataBudget
    private(set) var entries: [TreeEntry] = []

    /// - Parameters:
    ///   - name: what messages call the layer.
    ///   - budget: of all layers of the image.
    init(name: String, digest: Digest, budget: MetadataBudget) {
        self.name = name
        self.digest = digest
        self.budget = budget
    }

    /// Adds a member.
    ///
    /// - Returns: the content where it is a file of at least one byte. Its identity is its place in the layer;
    ///   `identify` gives it a better one.
    /// - Throws: `corrupt` for names that lead outside of the layer or cannot be presented.
    mutating func add(_ member: TarMember) throws(MCFSError) -> Content? {
        guard member.name.count <= Self.pathBytesMax else {
            throw refused(member, "its name is longer than \(Self.pathBytesMax) bytes")
        }
        let path = try treePath(member.name, of: member)
        if let (whiteoutPath, kind) = try whiteout(path, member) {
            if let kind { try append(member, whiteoutPath, kind) }
            return nil
        }
        if path.isRoot {
            guard member.kind == .directory else { throw refused(member, "it has no name") }
        }
        switch member.kind {
        case .file:
            let content = content(of: member)
            try append(member, path, .file(content))
            return member.size > 0 ? content : nil
        case .directory:
            try append(member, path, .directory)
        case .symlink:
            guard !member.linkName.isEmpty, member.linkName.count <= Self.pathBytesMax, !member.linkName.contains(0)
            else {
                throw refused(
                    member, "its target is empty, longer than \(Self.pathBytesMax) bytes, or holds a NUL byte")
            }
            try append(member, path, .symlink(target: member.linkName))
        case .hardLink:
            guard member.linkName.count <= Self.pathBytesMax else {
                throw refused(member, "its target is longer than \(Self.pathBytesMax) bytes")
            }
            let target = try treePath(member.linkName, of: member)
            guard !target.isRoot else { throw refused(member, "it is a hard link to nothing") }
            if target != path { try append(member, path, .hardLink(target)) }
        case .fifo:
            try append(member, path, .fifo)
        case .characterDevice:
            try append(member, path, .characterDevice(major: member.deviceMajor, minor: member.deviceMinor))
        case .blockDevice:
            try append(member, path, .blockDevice(major: member.deviceMajor, minor: member.deviceMinor))
        }
        return nil
    }

    /// Replaces the identity of the file that was added last.
    mutating func identifyLast(as id: BlobID) { identify(entries.count - 1, as: id) }

    /// Replaces the identity of a file.
    mutating func identify(_ index: Int, as id: BlobID) {
        guard entries.indices.contains(index), case .file(var content) = entries[index].kind else { return }
        content.id = id
        entries[index].kind = .file(content)
    }

    private mutating func append(_ member: TarMember, _ path: TreePath, _ kind: TreeEntry.Kind) throws(MCFSError) {
        // An entry with its arrays' headers; each component is an array.
        let bytes = 192 + member.name.count + member.linkName.count + 64 * path.components.count
        try budget.take(entries: 1, bytes: bytes, of: name)
        entries.append(
            TreeEntry(
                path, kind, permissions: member.permissions, uid: member.uid, gid: member.gid,
                modified: member.modified))
    }

    private func content(of member: TarMember) -> Content {
        let place = BlobID(origin: "layer", digest.description, String(member.offset), String(member.size))
        let id = member.size == 0 ? BlobID(Digest.sha256(of: [])) ?? place : place
        return Content(id: id, size: member.size, source: 0, offset: member.offset)
    }

    /// What a path with a component that begins with `.wh.` stands for: nothing at all (AUFS' own files), or a whiteout.
    private func whiteout(
        _ path: TreePath, _ member: TarMember
    ) throws(MCFSError) -> (TreePath, TreeEntry.Kind?)? {
        let mark = Array(".wh.".utf8)
        guard let first = path.components.firstIndex(where: { $0.starts(with: mark) }) else { return nil }
        let rest = path.components[first].dropFirst(mark.count)
        let isLast = first == path.components.count - 1
        let parent = path.parent
        if isLast, rest.elementsEqual(".wh..opq".utf8) { return (parent, .opaque) }
        if rest.starts(with: mark) { return (path, nil) }
        guard isLast, !rest.isEmpty, !rest.elementsEqual(".".utf8), !rest.elementsEqual("..".utf8) else {
            throw refused(
                member, "names that begin with '.wh.' hide a file of the layers below and stand for none themselves")
        }
        return (parent.appending(try treePath(Array(rest), of: member)), .whiteout)
    }

    private func treePath(_ bytes: [UInt8], of member: TarMember) throws(MCFSError) -> TreePath {
        do {
            return try TreePath(bytes)
        } catch {
            throw refused(member, MCFSError.shown(error.message.utf8, bytesMax: 400))
        }
    }

    private func refused(_ member: TarMember, _ why: String) -> MCFSError {
        var subject = "the entry '\(MCFSError.shown(member.name))'"
        if member.kind == .hardLink { subject += " (a hard link to '\(MCFSError.shown(member.linkName))')" }
        return MCFSError(.corrupt, "\(name) cannot be used because of \(subject): \(why)")
    }
}
