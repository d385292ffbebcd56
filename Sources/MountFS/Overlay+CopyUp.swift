internal import CLinux
internal import Catalog
internal import ChunkStore
internal import Glibc
package import MCFSCore
internal import Synchronization
internal import Upper

/// Files of the tree that are copied into the upper before they are written to.
extension Overlay {
    /// Whether a node is a file or a link of the tree that is not in the upper. Never true for directories.
    package func mustCopyUp(_ node: Node) -> Bool {
        if let state = nodes.node(node.number)?.now { return !state.isDirectory && !state.isUpper }
        guard let entry = node.entry(count: tree.count) else { return false }
        return tree.attributes(of: entry).kind != .directory
    }

    /// Whether a change of its attributes needs a node in the upper.
    package func mustCopyUp(_ node: Node, for change: AttributeChange) -> Bool {
        guard mustCopyUp(node), let entry = node.entry(count: tree.count) else { return false }
        return change.size != nil || tree.attributes(of: entry).kind != .file
    }

    /// Whether the copy needs no bytes, so that nobody waits for long.
    package func isCopiedAtOnce(_ node: Node, size: UInt64?) -> Bool {
        guard let entry = node.entry(count: tree.count) else { return true }
        return tree.attributes(of: entry).kind != .file || size == 0
    }

    /// Puts a file of the tree into the upper, whole, with all its names. Waits for bytes that are not local: not for a
    /// thread that answers requests, unless `isCopiedAtOnce`. Of several that copy one file at once, one's copy shows.
    ///
    /// A copy that fails leaves everything as it was.
    /// - Parameters:
    ///   - change: what the copy looks like when it shows; a size in it says how many bytes are needed, else all are.
    ///   - keepsNode: called under the lock, right before the copy shows: whether the node may become the copy. If not,
    ///     the copy is another node, and the kernel must look the name up again.
    ///   - isCancelled: asked now and then.
    /// - Returns: the copy, open for reading and writing; nil where somebody else was faster, and then the change was not
    ///   made, or where it is no file.
    @discardableResult
    package func copyUp(
        _ node: Node, with change: AttributeChange?, by caller: Caller, keepsNode: () -> Bool,
        isCancelled: @escaping () -> Bool
    ) throws(FileError) -> OwnedDescriptor? {
        do throws(FileError) {
            return try copy(node, change, caller, keepsNode, isCancelled)
        } catch {
            if case .errno(let errno) = error, errno == .exists, !mustCopyUp(node) { return nil }
            throw error
        }
    }

    private func copy(
        _ node: Node, _ change: AttributeChange?, _ caller: Caller, _ keepsNode: () -> Bool,
        _ isCancelled: @escaping () -> Bool
    ) throws(FileError) -> OwnedDescriptor? {
        guard mustCopyUp(node) else { return nil }
        let entry: Tree.Index
        let work: (folder: OwnedDescriptor, name: [UInt8])
        do throws(Errno) {
            entry = try self.entry(of: node)
            work = try upper.workPlace()
        } catch { throw .errno(error) }
        do throws(FileError) {
            let file = try makeCopy(entry, change?.size, work, isCancelled)
            do throws(Errno) {
                try changing { () throws(Errno) in
                    try show(work, file, entry, node, change, caller, keepsNode)
                }
            } catch { throw .errno(error) }
            return file
        } catch {
            upper.discard(work)
            throw error
        }
    }

    /// - Returns: the file, open; nil for what is none.
    private func makeCopy(
        _ entry: Tree.Index, _ size: UInt64?, _ work: (folder: OwnedDescriptor, name: [UInt8]),
        _ isCancelled: @escaping () -> Bool
    ) throws(FileError) -> OwnedDescriptor? {
        let attributes = lower.attributes(of: entry)
        do throws(Errno) {
            switch attributes.kind {
            case .directory: throw .isDirectory
            case .symlink:
                let target = tree.target(of: entry)
                _ = try retryingOnInterrupt {
                    work.name.withTerminated { name in
                        target.withTerminated { symlinkat($0, work.folder.rawValue, name) }
                    }
                }
                return nil
            case .fifo, .socket, .characterDevice, .blockDevice:
                let type: mode_t =
                    attributes.kind == .fifo ? S_IFIFO : attributes.kind == .blockDevice ? S_IFBLK : S_IFCHR
                _ = try retryingOnInterrupt {
                    work.name.withTerminated {
                        mknodat(work.folder.rawValue, $0, type | 0o600, dev_t(attributes.device))
                    }
                }
                return nil
            case .file: break
            }
        } catch { throw .errno(error) }
        let file: OwnedDescriptor
        do throws(Errno) {
            file = try .open(bytes: work.name, at: work.folder, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW)
        } catch { throw .errno(error) }
        let count = min(size ?? attributes.size, attributes.size)
        if size != 0, let content = lower.content(of: entry) {
            let reading: any ContentReading
            do throws(MCFSError) { reading = try lower.open(entry, content) } catch { throw .content(error) }
            if count == 0 { return file }
            try ContentCopy(reading, size: count, to: file, isCancelled).run()
            // The copy hides what it was made of: it must not show before its bytes are on the disk.
            do throws(Errno) { _ = try retryingOnInterrupt { fdatasync(file.rawValue) } } catch { throw .errno(error) }
        }
        return file
    }

    /// The copy takes the place of the file at all its names.
    private func show(
        _ work: (folder: OwnedDescriptor, name: [UInt8]), _ file: OwnedDescriptor?, _ entry: Tree.Index, _ node: Node,
        _ change: AttributeChange?, _ caller: Caller, _ keepsNode: () -> Bool
    ) throws(Errno) {
        let names = namesOfTree(entry)
        let places = try placesToCopyTo(names, node)
        for place in places { _ = try upper.descriptor(of: place.folder) }
        try upper.settle()
        try holding(places.map(\.folder)) { () throws(Errno) in
            // What is remembered of the file moves over to the copy.
            try upper.alone { () throws(Errno) in
                guard mustCopyUp(node) else { throw .exists }
                guard !places.isEmpty, try Set(placesNow(names, node)) == Set(places) else { throw .stale }
                let copy = file.map { UpperObject.descriptor($0) } ?? .name(work.name, in: work.folder)
                let metadata = lower.metadata(of: entry)
                try dress(copy, as: lower.attributes(of: entry))
                // After the owner: the disk takes capabilities from what is given away.
                for (name, value) in metadata?.extendedAttributes ?? [:] {
                    try value.withBytes { (value: UnsafeRawBufferPointer) throws(Errno) in
                        try copy.setExtendedAttribute(name, value)
                    }
                }
                if let change { try apply(change, to: copy, file, by: caller) }
                let identity = DiskIdentity(try copy.status())
                try put(work, at: places)
                switching.writing { become(identity, places, file, node, keepsNode: keepsNode()) }
                // After that: who looks for it finds the one or the other.
                if metadata != nil {
                    lower.setMetadata(nil, of: entry)
                    try? upper.setMetadata(LowerMetadata(), tree.path(of: tree.inode(of: entry)))
                }
            }
        }
    }

    /// The names after the first one are made before it, so that what fails can be taken back: until then each of them
    /// covers what shows the same.
    private func put(_ work: (folder: OwnedDescriptor, name: [UInt8]), at places: [Place]) throws(Errno) {
        var made: [Place] = []
        do throws(Errno) {
            for place in places.dropFirst() {
                let to = try upper.descriptor(of: place.folder)
                try keepingTimes(of: place.folder) { () throws(Errno) in
                    _ = try retryingOnInterrupt {
                        work.name.withTerminated { old in
                            place.name.withTerminated { linkat(work.folder.rawValue, old, to.rawValue, $0, 0) }
                        }
                    }
                }
                made.append(place)
            }
            let first = places[0]
            try keepingTimes(of: first.folder) { () throws(Errno) in try upper.put(work, first.name, in: first.folder) }
        } catch {
            for place in made {
                guard let folder = try? upper.descriptor(of: place.folder) else { continue }
                try? keepingTimes(of: place.folder) { () throws(Errno) in
                    _ = place.name.withTerminated { unlinkat(folder.rawValue, $0, 0) }
                }
            }
            throw error
        }
    }

    private func become(
        _ identity: DiskIdentity, _ places: [Place], _ file: OwnedDescriptor?, _ node: Node, keepsNode: Bool
    ) {
        if keepsNode {
            nodes.become(
                .upperFile(OverlayNode.UpperFile(identity: identity, places: Set(places))), ofEntry: node)
            if let file { openFiles.replace(node.number, .upper(file)) }
        } else {
            // Who has the old node open goes on reading what the tree has.
            nodes.node(node.number)?.become(.movedFile(nil))
            nodes.keepInode(node.number, of: identity)
        }
    }

    /// Where a file of the tree shows; its folders come to be in the upper.
    private func placesToCopyTo(_ names: [Tree.Index], _ node: Node) throws(Errno) -> [Place] {
        if case .movedFile(let place) = nodes.node(node.number)?.now { return place.map { [$0] } ?? [] }
        var places: [Place] = []
        for name in names {
            guard try isShown(name), let parent = try shownDirectory(tree.parent(of: name)) else { continue }
            let folder = try makeFolder(Node(number: parent.number))
            places.append(Place(folder: folder, name: tree.withName(of: name) { Array($0) }))
        }
        return places
    }

    /// The same, under the folders' locks.
    private func placesNow(_ names: [Tree.Index], _ node: Node) throws(Errno) -> [Place] {
        if case .movedFile(let place) = nodes.node(node.number)?.now { return place.map { [$0] } ?? [] }
        var places: [Place] = []
        for name in names {
            guard try isShown(name), let folder = try shownDirectory(tree.parent(of: name))?.folder else { continue }
            places.append(Place(folder: folder, name: tree.withName(of: name) { Array($0) }))
        }
        return places
    }

    func namesOfTree(_ entry: Tree.Index) -> [Tree.Index] {
        guard tree.attributes(of: entry).linkCount > 1 else { return [entry] }
        let inode = tree.inode(of: entry)
        return (0..<Tree.Index(tree.count)).filter { tree.inode(of: $0) == inode }
    }

    /// Whether a file shows under the name that the tree has for it, in its directory wherever that is now, or would if
    /// the view did not hide it: it may not for long.
    func isShown(_ entry: Tree.Index) throws(Errno) -> Bool {
        guard let directory = try shownDirectory(tree.parent(of: entry)),
            case .lower(entry, _) = try find(
                tree.withName(of: entry) { Array($0) }, in: directory, seesHidden: true)
        else { return false }
        return true
    }

    /// A directory of the tree, wherever it shows now; nil: nowhere.
    private func shownDirectory(_ entry: Tree.Index) throws(Errno) -> Directory? {
        let node = Node(entry: entry)
        if entry == Tree.root { return try directory(node) }
        if let state = nodes.node(node.number)?.now {
            if state.isRemoved { return nil }
            if state.folder != nil { return try directory(node) }
        }
        guard let parent = try shownDirectory(tree.parent(of: entry)) else { return nil }
        switch try find(tree.withName(of: entry) { Array($0) }, in: parent, seesHidden: true) {
        case .upper(let found, _) where found.now.shown == entry: return try directory(Node(number: found.number))
        case .lower(entry, _): return try directory(node)
        default: return nil
        }
    }
}

/// Copies the bytes of one file of the tree, on the calling thread.
private struct ContentCopy: ~Copyable {
    private static let stepBytes: UInt64 = 4 << 20

    private let reading: any ContentReading
    private let size: UInt64
    private let file: OwnedDescriptor
    private let isCancelled: () -> Bool

    init(_ reading: any ContentReading, size: UInt64, to file: OwnedDescriptor, _ isCancelled: @escaping () -> Bool) {
        self.reading = reading
        self.size = size
        self.file = file
        self.isCancelled = isCancelled
    }

    func run() throws(FileError) {
        var done: UInt64 = 0
        if let complete = reading.completeFile { done = try share(complete) }
        if done < size { reading.expect(ByteRange(done, size)) }
        while done < size {
            if isCancelled() { throw .errno(.interrupted) }
            let range = ByteRange(done, min(size, done + (1 << 20)))
            try copy(range)
            done = range.upperBound
        }
        // Zeros at the end were not written.
        do throws(Errno) { _ = try retryingOnInterrupt { ftruncate(file.rawValue, off_t(size)) } } catch {
            throw .errno(error)
        }
    }

    /// Lets the disk copy, which shares the blocks where it can. - Returns: how many bytes were copied.
    private func share(_ complete: OwnedDescriptor) throws(FileError) -> UInt64 {
        var from: off_t = 0
        var to: off_t = 0
        while UInt64(to) < size {
            if isCancelled() { throw .errno(.interrupted) }
            do throws(Errno) {
                let count = try retryingOnInterrupt {
                    mcfs_copy_file_range(
                        complete.rawValue, &from, file.rawValue, &to, Int(min(Self.stepBytes * 16, size - UInt64(to))))
                }
                if count == 0 { break }
            } catch {
                // Between two file systems that cannot, the bytes are read and written.
                if error == .noSpace || error == .quota || error == .io { throw .errno(error) }
                break
            }
        }
        return UInt64(to)
    }

    private func copy(_ range: ByteRange) throws(FileError) {
        let waiter = RegionWaiter()
        do throws(MCFSError) {
            switch try reading.read(range, makeWaiter: { waiter }) {
            case .region(let region): waiter.complete(.success(region))
            case .pending: break
            }
        } catch { throw .content(error) }
        while !waiter.wait(.milliseconds(100)) {
            if isCancelled() { throw .errno(.interrupted) }
        }
        try waiter.take(writing: file, at: range.lowerBound)
    }
}

/// Waits for one region on behalf of a thread that may block.
private final class RegionWaiter: ReadWaiter {
    private let result = Lock<Result<FileRegion, MCFSError>?>(nil)
    private let isDone = Guarded(false)

    func complete(_ result: consuming Result<FileRegion, MCFSError>) {
        var slot: Result<FileRegion, MCFSError>? = consume result
        self.result.withLock { $0 = slot.take() }
        isDone.update { $0 = true }
    }

    /// Blocks of zeros stay holes: a sparse file stays one.
    private static func write(
        _ bytes: UnsafeRawBufferPointer, to file: OwnedDescriptor, at offset: UInt64
    ) throws(Errno) {
        let step = 64 << 10
        var start = 0
        while start < bytes.count {
            var end = start
            while end < bytes.count, !isZero(bytes[end..<min(end + step, bytes.count)]) { end += step }
            end = min(end, bytes.count)
            if end > start {
                try file.write(UnsafeRawBufferPointer(rebasing: bytes[start..<end]), at: offset + UInt64(start))
            }
            start = end + step
        }
    }

    private static func isZero(_ bytes: Slice<UnsafeRawBufferPointer>) -> Bool {
        let bytes = UnsafeRawBufferPointer(rebasing: bytes)
        guard let start = bytes.baseAddress, bytes[0] == 0 else { return bytes.isEmpty }
        // Each byte is the one before it.
        return memcmp(start, start + 1, bytes.count - 1) == 0
    }

    /// - Returns: false where the time passed first.
    func wait(_ time: Duration) -> Bool { isDone.wait(until: Deadline(after: time)) { $0 ? true : nil } ?? false }

    func take(writing file: OwnedDescriptor, at offset: UInt64) throws(FileError) {
        switch result.withLock({ $0.take() }) {
        case .success(let region):
            let outcome: Result<Void, Errno>? = region.withBytes { bytes in
                do throws(Errno) { return .success(try Self.write(bytes, to: file, at: offset)) } catch {
                    return .failure(error)
                }
            }
            switch outcome {
            case .success: return
            case .failure(let errno): throw .errno(errno)
            case nil: throw .content(MCFSError(.localIO, "a file of the cache cannot be read"))
            }
        case .failure(let error): throw .content(error)
        case nil: throw .errno(.io)
        }
    }
}
