internal import MCFSCore

/// The entries of a tree as one array per attribute: 47 bytes an entry and its name, 64 bytes a content; what its
/// source is called and which version it has is in `SourceTable`.
struct TreeColumns {
    var names: [UInt8] = []
    /// One more than there are entries: a name ends where the next one begins.
    var nameOffsets: [UInt32] = [0]
    var kinds: [UInt8] = []
    var permissions: [UInt16] = []
    var uids: [UInt32] = []
    var gids: [UInt32] = []
    var seconds: [Int64] = []
    var nanoseconds: [UInt32] = []
    var parents: [UInt32] = []
    /// Directory: first child. File: content. Symbolic link: offset into `targets`. Device: major number.
    var first: [UInt32] = []
    /// Directory: number of children. Symbolic link: bytes of the target. Device: minor number.
    var second: [UInt32] = []
    var inodes: [UInt32] = []
    var linkCounts: [UInt32] = []
    var targets: [UInt8] = []
    var contents: [Content] = []

    func kind(_ entry: Int) -> Tree.Kind { Tree.Kind(rawValue: kinds[entry]) ?? .fifo }

    func nameRange(_ entry: Int) -> Range<Int> { Int(nameOffsets[entry])..<Int(nameOffsets[entry + 1]) }

    /// Every index stands for something, the directories form one tree, names are sorted.
    ///
    /// - Throws: `corrupt`.
    func check(sourceCount: Int) throws(MCFSError) {
        guard !kinds.isEmpty, kinds[0] == Tree.Kind.directory.rawValue else { throw damaged("it has no root") }
        try checkNames()
        try checkEntries()
        for content in contents {
            guard content.source < sourceCount, content.isPossible else { throw damaged("a content lies nowhere") }
        }
    }

    private func checkNames() throws(MCFSError) {
        guard nameOffsets[0] == 0, nameOffsets[1] == 0, nameOffsets[kinds.count] == names.count else {
            throw damaged("its names are out of place")
        }
        for entry in 1..<max(1, kinds.count) {
            guard nameOffsets[entry] < nameOffsets[entry + 1],
                nameOffsets[entry + 1] - nameOffsets[entry] <= UInt32(TreePath.nameBytesMax)
            else { throw damaged("entry \(entry) has no proper name") }
        }
    }

    private func checkEntries() throws(MCFSError) {
        var next: UInt32 = 1
        for entry in kinds.indices {
            guard let kind = Tree.Kind(rawValue: kinds[entry]) else {
                throw damaged("entry \(entry) is of no known kind")
            }
            let inode = Int(inodes[entry])
            guard inode <= entry, Int(inodes[inode]) == inode, kinds[inode] == kinds[entry] else {
                throw damaged("entry \(entry) is a hard link to nothing")
            }
            switch kind {
            case .directory:
                let (end, overflow) = next.addingReportingOverflow(second[entry])
                guard first[entry] == next, next > entry, !overflow, end <= kinds.count, inode == entry else {
                    throw damaged("directory \(entry) has no proper children")
                }
                try checkChildren(Int(next)..<Int(end), of: UInt32(entry))
                next = end
            case .file:
                guard first[entry] < contents.count else { throw damaged("file \(entry) has no content") }
            case .symlink:
                guard UInt64(first[entry]) + UInt64(second[entry]) <= UInt64(targets.count) else {
                    throw damaged("link \(entry) has no target")
                }
            case .fifo, .characterDevice, .blockDevice: break
            }
        }
        guard next == kinds.count, parents[0] == 0 else { throw damaged("entries are in no directory") }
    }

    private func checkChildren(_ children: Range<Int>, of directory: UInt32) throws(MCFSError) {
        let fine = names.withUnsafeBytes { pool in
            children.allSatisfy { child in
                parents[child] == directory
                    && (child == children.lowerBound
                        || compare(
                            UnsafeRawBufferPointer(rebasing: pool[nameRange(child - 1)]),
                            UnsafeRawBufferPointer(rebasing: pool[nameRange(child)])) < 0)
            }
        }
        if !fine { throw damaged("directory \(directory) has no proper children") }
    }
}
