internal import Catalog
internal import MCFSCore
internal import Synchronization

/// The files that the kernel holds open, by tree entry. What is kept here can be made again from the entry alone: a
/// read of a file that is not in the table opens it, so handles given out by an earlier server of the same tree work.
///
/// Thread safe. The lock is held for one dictionary operation, never while a file is being opened.
final class OpenFiles: Sendable {
    private struct OpenFile {
        let file: any ContentReading
        /// Opens of the kernel that were not released; 0 for a file that was opened by a read.
        var opens: Int
    }

    private let files = Mutex<[Tree.Index: OpenFile]>([:])

    /// Counts one more open of `entry`.
    func open(
        _ entry: Tree.Index, make: () throws(MCFSError) -> any ContentReading
    ) throws(MCFSError) -> any ContentReading {
        let known = files.withLock { files in
            files[entry]?.opens += 1
            return files[entry]?.file
        }
        if let known { return known }
        let file = try make()
        // Another thread may have been faster: its file stays, so that readers share one read-ahead window.
        return files.withLock { files in
            files[entry, default: OpenFile(file: file, opens: 0)].opens += 1
            return files[entry]?.file ?? file
        }
    }

    func file(
        _ entry: Tree.Index, make: () throws(MCFSError) -> any ContentReading
    ) throws(MCFSError) -> any ContentReading {
        if let file = files.withLock({ $0[entry]?.file }) { return file }
        let file = try make()
        // Another thread may have been faster: its file stays.
        return files.withLock { files in
            if let other = files[entry]?.file { return other }
            files[entry] = OpenFile(file: file, opens: 0)
            return file
        }
    }

    /// Takes back one `open`; the last one forgets the file.
    func release(_ entry: Tree.Index) {
        // The file goes after the lock: its deinit may close descriptors.
        let last = files.withLock { files -> (any ContentReading)? in
            guard var open = files[entry] else { return nil }
            open.opens -= 1
            guard open.opens <= 0 else {
                files[entry] = open
                return nil
            }
            files[entry] = nil
            return open.file
        }
        withExtendedLifetime(last) {}
    }

    var count: Int { files.withLock { $0.count } }
}
