internal import Glibc
internal import KernelCaches
internal import MCFSCore

/// The removal of one kernel, or of what it does not need, in two steps with some time between them.
struct EntryRemoval {
    /// Why an entry stays as it is.
    enum Stay: Error {
        case isWritten
        case isNeeded(String)
    }

    let item: PrunePlan.Item
    private let extent: PrunePlan.Extent
    /// The directory before anything was changed.
    private let before: stat
    /// Of an entry of Triton's: what will go. Of any other all does.
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
        before = try place.parent.status(of: place.name)
        guard Folder.Stamp(before) == item.stamp else { throw Stay.isWritten }
        let folder = try place.parent.folder(place.name)
        guard item.kernel.kind == .triton else {
            try Self.checkIsQuiet(folder, now: now)
            files = []
            return
        }
        let items = try folder.items()
        try Self.checkIsQuiet(items, now: now)
        let groups = items.filter { TritonFile.isGroup($0.name) }
        switch extent {
        case .full:
            files = items.filter { !$0.isFolder && !TritonFile.isGroup($0.name) }
            for group in groups {
                try folder.remove(group.name)
                bytesGone.addClamped(group.stamp.size)
            }
        case .intermediates:
            files = items.filter { $0.isFile && TritonFile.isIntermediate($0.name) }
            for (group, content) in try groups.map({ ($0, try Self.amended($0, in: folder)) }) {
                if let content { try folder.replace(group, with: content) }
            }
        }
    }

    /// - Returns: the bytes that went in both steps.
    func finish(now: Timestamp) throws -> UInt64 {
        let place = try Place(item.kernel.path, below: item.root)
        let folder = try place.parent.folder(place.name)
        guard item.kernel.kind == .triton else { return try place.removeTree() }
        if extent == .full {
            // An engine that found nothing has begun to write it anew.
            let items = try folder.items()
            if items.contains(where: { TritonFile.isGroup($0.name) }) { throw Stay.isWritten }
            try Self.checkIsQuiet(items, now: now)
        }
        var bytes = bytesGone
        for file in files {
            guard let now = try? folder.status(of: file.name), Folder.Stamp(now).hasSameContent(as: file.stamp) else {
                continue
            }
            try folder.remove(file.name)
            bytes.addClamped(file.stamp.size)
        }
        switch extent {
        case .full:
            do throws(Errno) { try place.parent.removeFolder(place.name) } catch {
                guard error.rawValue == ENOTEMPTY || error == .exists else { throw error }
            }
        // What was pruned is as old as before.
        case .intermediates: try? folder.setTimes(before)
        }
        return bytes
    }

    /// The record without what will go; nil where it is so already.
    private static func amended(_ item: Folder.Item, in folder: Folder) throws -> [UInt8]? {
        let read = try folder.read(item.name, bytesMax: Int(KernelDescription.metadataBytesMax) + 1)
        guard let group = TritonGroup(read.bytes) else {
            throw Stay.isNeeded("its group record cannot be read, so nothing says what a hit needs")
        }
        if group.isRelocatable { throw Stay.isNeeded("Triton 2 compiles again without its IR") }
        let amended = group.leavingOut { TritonFile.isIntermediate($0.utf8) }
        return amended == group ? nil : amended.serialized()
    }

    // MARK: - Being written

    /// - Throws: `isWritten` where something below is a temporary of a writer, or young.
    private static func checkIsQuiet(_ folder: Folder, now: Timestamp) throws {
        let items = try folder.items()
        try checkIsQuiet(items, now: now)
        for item in items where item.isFolder { try checkIsQuiet(try folder.folder(item.name), now: now) }
    }

    private static func checkIsQuiet(_ items: [Folder.Item], now: Timestamp) throws {
        for item in items {
            let age = now.seconds.subtractingReportingOverflow(Int64(item.status.st_mtim.tv_sec)).partialValue.magnitude
            if TritonFile.isTemporary(item.name) || item.isFile && age < Pruner.youngSeconds { throw Stay.isWritten }
        }
    }
}
