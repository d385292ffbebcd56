internal import MCFSCore
internal import Synchronization

/// Where an open file is read from, and written to.
enum OpenContent: Sendable {
    case lower(any ContentReading)
    /// A small file of the tree that was not read yet, see `MountFS.smallBytes`.
    case unread
    /// A file of the tree without bytes.
    case empty
    /// A file of the upper.
    case upper(OwnedDescriptor)

    fileprivate var isUnread: Bool { if case .unread = self { true } else { false } }
    fileprivate var isStale: Bool { if case .lower(let file) = self { file.isStale } else { false } }
}

/// The files that the kernel holds open, by node number. What is kept here can be made again from the node alone: a
/// read of a file that is not in the table opens it, so handles given out by an earlier server of the same tree work.
///
/// Thread safe. The lock is held for one dictionary operation, never while a file is being opened.
final class OpenFiles: Sendable {
    private struct OpenFile {
        var content: OpenContent
        /// Opens of the kernel that were not released; 0 for a file that was opened by a read.
        var opens: Int
        var failure: Failure?
    }

    /// Bytes that were written and did not get to the disk. The disk tells each descriptor once, and of each file there is
    /// one for all opens.
    private struct Failure {
        let errno: Errno
        /// Opens after this one are told of nothing that was before them.
        let lastHandle: UInt64
        var told: Set<UInt64> = []
    }

    private let files = Lock<[UInt64: OpenFile]>([:])
    /// Behind those that content has.
    private let lastHandle = Atomic<UInt64>(1 << 32)

    /// What tells an open of a file of the upper from those before it.
    func newHandle() -> UInt64 { lastHandle.add(1, ordering: .relaxed).newValue }

    /// Counts one more open of `node`.
    func open<Failure: Error>(
        _ node: UInt64, make: () throws(Failure) -> OpenContent
    ) throws(Failure) -> OpenContent {
        let known = files.withLock { files in
            guard let place = files.index(forKey: node) else { return OpenContent?.none }
            files.values[place].opens += 1
            return files.values[place].content
        }
        if let known {
            if !known.isStale { return known }
            // Who opens it now gets what is right; who had it open is told by its handle.
            release(node)
        }
        let content = try make()
        // Another thread may have been faster: its file stays, so that readers share one read-ahead window.
        return files.withLock { files in
            if let place = files.index(forKey: node) {
                files.values[place].opens += 1
                if files.values[place].content.isStale { files.values[place].content = content }
                return files.values[place].content
            }
            files[node] = OpenFile(content: content, opens: 1)
            return content
        }
    }

    /// What a file is read from; made now where it was not read yet, or was opened by an earlier server.
    ///
    /// - Parameter keeps: whether the next call gets what was made now.
    func content<Failure: Error>(
        _ node: UInt64, keeps: Bool = true, make: () throws(Failure) -> OpenContent
    ) throws(Failure) -> OpenContent {
        if let content = known(node), !content.isUnread { return content }
        let content = try make()
        if !keeps { return content }
        // Another thread may have been faster: its file stays.
        return files.withLock { files in
            if let other = files[node]?.content, !other.isUnread { return other }
            files[node, default: OpenFile(content: content, opens: 0)].content = content
            return content
        }
    }

    func known(_ node: UInt64) -> OpenContent? { files.withLock { $0[node]?.content } }

    /// The open file is read from somewhere else from now on.
    func replace(_ node: UInt64, _ content: OpenContent) {
        let old = files.withLock { files -> OpenContent? in
            let old = files[node]?.content
            files[node]?.content = content
            return old
        }
        withExtendedLifetime(old) {}
    }

    /// Syncs a file of the upper by `body`. What fails is told once to each open that is there.
    func sync(
        _ node: UInt64, handle: UInt64, _ body: (OwnedDescriptor) throws(Errno) -> Void
    ) throws(Errno) {
        guard case .upper(let file) = known(node) else { return }
        var errno: Errno?
        do throws(Errno) { try body(file) } catch { errno = error }
        let told = files.withLock { files -> Errno? in
            guard let place = files.index(forKey: node) else { return errno }
            if let errno {
                files.values[place].failure = Failure(errno: errno, lastHandle: lastHandle.load(ordering: .relaxed))
            }
            guard let failure = files.values[place].failure, handle <= failure.lastHandle,
                files.values[place].failure?.told.insert(handle).inserted == true
            else { return nil }
            return failure.errno
        }
        if let told { throw told }
    }

    /// Takes back one `open`; the last one forgets the file.
    func release(_ node: UInt64) {
        // The file goes after the lock: its deinit may close descriptors.
        let last = files.withLock { files -> OpenContent? in
            guard let place = files.index(forKey: node) else { return nil }
            files.values[place].opens -= 1
            return files.values[place].opens <= 0 ? files.remove(at: place).value.content : nil
        }
        withExtendedLifetime(last) {}
    }

    var count: Int { files.withLock { $0.count } }
}
