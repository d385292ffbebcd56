internal import Glibc
internal import KernelCaches
internal import MCFSCore

/// The removal of one kernel, or of what it does not need, in two steps with some time between them.
struct EntryRemoval {
    /// Why an entry stays as it is.
    enum Stay: Error {
        case isWritten
        /// A sentence.
        case isKept(String)
    }

    let item: PrunePlan.Item
    private let extent: PrunePlan.Extent
    /// The directory before anything was changed.
    private let before: stat
    /// Of an entry of Triton's: what is in it, and what will go. What goes of any other is seen when it does.
    private let own: OwnContents?
    private let files: [Folder.Item]
    /// Bytes that went already.
    private var bytesGone: UInt64 = 0

    /// After this nothing finds the entry as it was.
    ///
    /// - Throws: `Stay`; an `Errno`, `ENOENT` for an entry that is gone.
    init(beginning item: PrunePlan.Item, _ extent: PrunePlan.Extent, now: Timestamp) throws {
        self.item = item
        self.extent = extent
        let place = try Place(item.kernel.path, below: item.root)
        let folder = try place.parent.folder(place.name)
        before = try folder.status()
        guard Folder.Stamp(before) == item.found.stamp else { throw Stay.isWritten }
        if let doubt = item.kernel.doubt { throw Stay.isKept(doubt) }
        guard item.kernel.kind == .triton else {
            (own, files) = (nil, [])
            try checkIsAsPlanned(folder, at: item.kernel.path)
            try Self.checkIsQuiet(folder, now: now)
            return
        }
        let own = try OwnContents(of: item.found, in: folder)
        self.own = own
        let items = own.items
        try Self.checkStays(item, items, of: folder)
        if let doubt = own.doubt(extent) { throw Stay.isKept(doubt) }
        if let metadata = item.found.metadata,
            items.first(where: { $0.name == metadata.name })?.stamp != metadata.stamp
        {
            throw Stay.isWritten
        }
        try Self.checkIsQuiet(items, in: folder, now: now)
        let groups = items.filter { TritonFile.isGroup($0.name) }
        switch extent {
        case .full:
            files = items.filter { !TritonFile.isGroup($0.name) }
            for group in groups {
                try folder.remove(group.name)
                bytesGone.addClamped(group.stamp.size)
            }
        case .intermediates:
            files = own.intermediates
            for (group, content) in try groups.map({ ($0, try Self.amended($0, in: folder)) }) {
                if let content { try folder.replace(group, with: content) }
            }
        }
    }

    /// - Returns: the bytes that went in both steps.
    func finish(now: Timestamp) throws -> UInt64 {
        let place = try Place(item.kernel.path, below: item.root)
        let folder = try place.parent.folder(place.name)
        guard try Folder.Stamp(folder.status()).inode == item.found.stamp.inode else { throw Stay.isWritten }
        guard let own else {
            try Self.checkIsQuiet(folder, now: now)
            let tree = try OwnTree(of: item.kernel.kind, in: folder)
            if let doubt = tree.doubt { throw Stay.isKept(doubt) }
            return tree.isWhole ? try place.removeTree() : try tree.remove(in: folder)
        }
        if extent == .full {
            // An engine that found nothing has begun to write it anew.
            let items = try folder.items()
            if items.contains(where: { TritonFile.isGroup($0.name) }) { throw Stay.isWritten }
            try Self.checkIsQuiet(items, in: folder, now: now)
        }
        var bytes = bytesGone
        for file in files { try bytes.addClamped(remove(file, of: own, in: folder)) }
        switch extent {
        case .full:
            do throws(Errno) { try place.parent.removeFolder(place.name) } catch {
                // Somebody put something there in the meantime.
                if error.rawValue == ENOTEMPTY || error == .exists { throw Stay.isWritten }
                throw error
            }
        // What was pruned is as old as before.
        case .intermediates: try? folder.setTimes(before)
        }
        return bytes
    }

    /// - Returns: the bytes that went. What was changed since is somebody else's and stays.
    private func remove(_ item: Folder.Item, of own: OwnContents, in folder: Folder) throws(Errno) -> UInt64 {
        guard let now = try? folder.status(of: item.name), Folder.Stamp(now).hasSameContent(as: item.stamp)
        else { return 0 }
        guard item.isFolder else {
            try folder.remove(item.name)
            return item.stamp.size
        }
        // What a writer left behind that is gone.
        let temporary = try folder.folder(item.name)
        var bytes: UInt64 = 0
        for file in try temporary.items() where file.isFile && own.holds(file) {
            try temporary.remove(file.name)
            bytes.addClamped(file.stamp.size)
        }
        do throws(Errno) { try folder.removeFolder(item.name) } catch {
            // What is there keeps the entry's directory as well.
            guard error.rawValue == ENOTEMPTY || error == .exists else { throw error }
        }
        return bytes
    }

    /// The record without what will go; nil where it is so already.
    private static func amended(_ item: Folder.Item, in folder: Folder) throws -> [UInt8]? {
        let read = try folder.read(item.name, bytesMax: Int(KernelDescription.metadataBytesMax) + 1)
        guard let group = TritonGroup(read.bytes) else {
            throw Stay.isKept("its group record cannot be read, so nothing says what a hit needs")
        }
        if group.isRelocatable { throw Stay.isKept("Triton 2 compiles again without its IR") }
        let amended = group.leavingOut { TritonFile.isIntermediate($0.utf8) }
        return amended == group ? nil : amended.serialized()
    }

    // MARK: - Checks

    /// - Throws: `isKept` unless all entries that lie in it are among those that went, or are not there any more.
    func check(parts gone: Set<[UInt8]>) throws {
        let isThere = { (path: [UInt8]) throws(Errno) -> Bool in
            do throws(Errno) {
                let place = try Place(path, below: item.root)
                _ = try place.parent.status(of: place.name)
                return true
            } catch {
                if error == .noEntry { return false }
                throw error
            }
        }
        if try item.parts.subtracting(gone).contains(where: isThere) { throw Stay.isKept(Self.partsStay) }
    }

    /// Why a directory of vLLM's stays.
    static let partsStay = "not all kernels in it go"

    /// - Throws: `isKept` where what it is a duplicate of is not there any more with the same bytes.
    private static func checkStays(_ item: PrunePlan.Item, _ items: [Folder.Item], of folder: Folder) throws {
        guard let staying = item.staying else { return }
        let place = try? Place(staying.kernel.path, below: item.root)
        guard let other = try? place?.parent.folder(place?.name ?? []),
            let status = try? other.status(), Folder.Stamp(status) == staying.stamp,
            items.allSatisfy({ Duplicates.isSame($0.name, of: item.found, in: folder, and: other) })
        else { throw Stay.isKept("\(staying.kernel.pathText), which had the same bytes, was changed in the meantime") }
    }

    /// - Throws: `isWritten` where a directory was not seen by the plan, or was changed since. Another file system that is
    ///   mounted in it is not looked at, and stays.
    private func checkIsAsPlanned(_ folder: Folder, at path: [UInt8]) throws {
        let status = try folder.status()
        guard status.st_dev == before.st_dev else { return }
        guard item.stamps[path] == Folder.Stamp(status) else { throw Stay.isWritten }
        for inner in try folder.items() where inner.isFolder {
            let path = path + [UInt8(ascii: "/")] + inner.name
            try checkIsAsPlanned(try folder.folder(inner.name), at: path)
        }
    }

    /// - Throws: `isWritten` where something below is a temporary of a writer, or young.
    static func checkIsQuiet(_ folder: Folder, now: Timestamp) throws {
        let items = try folder.items()
        try checkIsQuiet(items, in: folder, now: now)
        for item in items where item.isFolder { try checkIsQuiet(try folder.folder(item.name), now: now) }
    }

    private static func checkIsQuiet(_ items: [Folder.Item], in folder: Folder, now: Timestamp) throws {
        for item in items {
            if TritonFile.isTemporary(item.name) {
                // Its writer may take long for what is in it.
                let inner = item.isFolder ? try folder.folder(item.name).items() : []
                if ([item] + inner).contains(where: { $0.age(now) < Pruner.leftoverSeconds }) { throw Stay.isWritten }
            } else if item.isFile, item.age(now) < Pruner.youngSeconds {
                throw Stay.isWritten
            }
        }
    }
}
