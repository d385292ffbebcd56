internal import Glibc
package import MCFSCore
internal import Synchronization

/// The entries that a resolved reference presents. Immutable; thread safe; O(log n) lookups.
///
/// Entries are numbered breadth first, the children of a directory in a row and sorted by name (as bytes), so that an
/// entry's number follows from the resolved tree alone. The root is entry 0.
package final class Tree: Sendable {
    package typealias Index = UInt32

    package enum Kind: UInt8, Sendable { case directory, file, symlink, fifo, characterDevice, blockDevice }

    package struct Attributes: Sendable, Hashable {
        package var kind: Kind
        package var permissions: UInt16
        package var uid: UInt32
        package var gid: UInt32
        package var modified: Timestamp
        /// Bytes of a file; length of a link's target; 0 else.
        package var size: UInt64
        package var linkCount: UInt32
        /// Device numbers of a device, as `makedev` packs them.
        package var device: UInt64
    }

    package static let root: Index = 0
    package let sources: SourceTable

    let columns: TreeColumns
    private let derived = Lock(Derived())

    /// What is made on first use only.
    private struct Derived {
        var placement: Placement?
        /// Numbers of the contents that are the first of their identity; nil inside: all are.
        var distinct: [UInt32]??
    }

    /// `columns` must fulfil what `TreeColumns.check` asks for.
    init(columns: TreeColumns, sources: SourceTable) {
        self.columns = columns
        self.sources = sources
    }

    package var count: Int { columns.kinds.count }

    package func attributes(of entry: Index) -> Attributes {
        let entry = Int(entry)
        let kind = columns.kind(entry)
        var size: UInt64 = 0
        var device: UInt64 = 0
        switch kind {
        case .file: size = columns.contents[Int(columns.first[entry])].size
        case .symlink: size = UInt64(columns.second[entry])
        case .characterDevice, .blockDevice: device = packed(major: columns.first[entry], minor: columns.second[entry])
        case .directory, .fifo: break
        }
        return Attributes(
            kind: kind, permissions: columns.permissions[entry], uid: columns.uids[entry], gid: columns.gids[entry],
            modified: Timestamp(seconds: columns.seconds[entry], nanoseconds: columns.nanoseconds[entry]).clamped,
            size: size,
            linkCount: columns.linkCounts[entry], device: device)
    }

    /// The entry that stands for all hard links of a file; the entry itself elsewhere. Inode numbers derive from it.
    package func inode(of entry: Index) -> Index { columns.inodes[Int(entry)] }

    package func parent(of entry: Index) -> Index { columns.parents[Int(entry)] }

    /// Empty for anything but a directory.
    package func children(of directory: Index) -> Range<Index> {
        guard columns.kind(Int(directory)) == .directory else { return 0..<0 }
        let first = columns.first[Int(directory)]
        return first..<first + columns.second[Int(directory)]
    }

    /// No allocation.
    package func lookup(_ name: UnsafeRawBufferPointer, in directory: Index) -> Index? {
        let children = children(of: directory)
        return columns.names.withUnsafeBytes { pool in
            columns.nameOffsets.withUnsafeBufferPointer { offsets in
                var low = Int(children.lowerBound)
                var high = Int(children.upperBound)
                while low < high {
                    let middle = low + (high - low) / 2
                    let candidate = UnsafeRawBufferPointer(
                        rebasing: pool[Int(offsets[middle])..<Int(offsets[middle + 1])])
                    let order = compare(candidate, name)
                    if order == 0 { return Index(middle) }
                    if order < 0 { low = middle + 1 } else { high = middle }
                }
                return nil
            }
        }
    }

    package func withName<R>(of entry: Index, _ body: (UnsafeRawBufferPointer) -> R) -> R {
        let range = columns.nameRange(Int(entry))
        return columns.names.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[range])) }
    }

    /// Empty for anything but a symbolic link.
    package func target(of symlink: Index) -> [UInt8] {
        guard columns.kind(Int(symlink)) == .symlink else { return [] }
        let start = Int(columns.first[Int(symlink)])
        return Array(columns.targets[start..<start + Int(columns.second[Int(symlink)])])
    }

    /// nil for anything but a file.
    package func content(of file: Index) -> Content? {
        guard columns.kind(Int(file)) == .file else { return nil }
        return columns.contents[Int(columns.first[Int(file)])]
    }

    package func path(of entry: Index) -> TreePath {
        var components: [[UInt8]] = []
        var entry = entry
        while entry != Self.root {
            components.append(Array(columns.names[columns.nameRange(Int(entry))]))
            entry = parent(of: entry)
        }
        var path = TreePath.root
        path.components = components.reversed()
        return path
    }

    package func entry(at path: TreePath) -> Index? {
        var entry = Self.root
        for component in path.components {
            guard let child = component.withUnsafeBytes({ lookup($0, in: entry) }) else { return nil }
            entry = child
        }
        return entry
    }

    /// Every distinct content once: of several places with the same bytes, the first.
    package var contents: Contents {
        let distinct = derived.withLock { derived -> [UInt32]? in
            if let known = derived.distinct { return known }
            let found = distinctContents()
            derived.distinct = .some(found)
            return found
        }
        return Contents(all: columns.contents, numbers: distinct)
    }

    /// Some of a tree's contents, without a copy of them.
    package struct Contents: RandomAccessCollection, Sendable {
        fileprivate let all: [Content]
        /// nil: all.
        fileprivate let numbers: [UInt32]?

        package var startIndex: Int { 0 }
        package var endIndex: Int { numbers?.count ?? all.count }

        package subscript(position: Int) -> Content {
            guard let numbers else { return all[position] }
            return all[Int(numbers[position])]
        }
    }

    private func distinctContents() -> [UInt32]? {
        let contents = columns.contents
        func hash(_ number: Int) -> Int {
            var hasher = Hasher()
            hasher.combine(contents[number].id)
            hasher.combine(contents[number].size)
            return hasher.finalize()
        }
        var seen = NumberTable(minimumCapacity: contents.count)
        var numbers: [UInt32] = []
        for (number, content) in contents.enumerated() {
            let hash = hash(number)
            let known = seen.find(hash: hash) { contents[$0].id == content.id && contents[$0].size == content.size }
            if known != nil { continue }
            seen.add(number, hash: hash, hashOf: hash(_:))
            numbers.append(UInt32(number))
        }
        return numbers.count == contents.count ? nil : numbers
    }

    /// Which contents lie where in one of `sources`.
    package func layout(ofSource source: Int) -> any SourceLayout {
        let placement = derived.withLock { derived -> Placement in
            if let known = derived.placement { return known }
            let made = Placement(columns.contents, sourceCount: sources.count)
            derived.placement = made
            return made
        }
        return SourceContents(tree: self, placement: placement, source: source)
    }
}

/// Bytes by value, the shorter first where one begins with the other: less than, equal to or greater than 0.
func compare(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Int {
    let common = min(a.count, b.count)
    if common > 0, let a = a.baseAddress, let b = b.baseAddress {
        let order = memcmp(a, b, common)
        if order != 0 { return Int(order) }
    }
    return a.count - b.count
}

/// `makedev` of glibc.
private func packed(major: UInt32, minor: UInt32) -> UInt64 {
    let major = UInt64(major)
    let minor = UInt64(minor)
    return (major & 0xffff_f000) << 32 | (major & 0xfff) << 8 | (minor & 0xffff_ff00) << 12 | (minor & 0xff)
}
