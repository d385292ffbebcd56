package import MCFSCore

private let treeMagic: StaticString = "mcfsTREE"
private let treeVersion: UInt32 = 2
/// Had one section for the sources, with all their texts; everything else is as it was.
private let firstTreeVersion: UInt32 = 1

/// The sections of docs/cache-format.md#trees, in their order.
private enum Section: Int, CaseIterable {
    case names, nameOffsets, kinds, permissions, uids, gids, seconds, nanoseconds, parents, first, second, inodes
    case linkCounts, targets
    case contentKinds, contentIDs, contentSizes, contentSources, contentOffsets
    case sources, sourceRecords, sourceBlocks

    static let countInFirstVersion = Section.sources.rawValue + 1
}

extension Tree {
    /// The file format of docs/cache-format.md#trees.
    package func serialized() -> [UInt8] {
        let bytes =
            columns.names.count + columns.targets.count + count * 47 + columns.contents.count * 53
            + sources.records.count
        var writer = SectionWriter(
            magic: treeMagic, version: treeVersion, sectionCount: Section.allCases.count, reservingBytes: bytes)
        for section in Section.allCases {
            switch section {
            case .names: writer.add(columns.names)
            case .nameOffsets: writer.add(columns.nameOffsets)
            case .kinds: writer.add(columns.kinds)
            case .permissions: writer.add(columns.permissions)
            case .uids: writer.add(columns.uids)
            case .gids: writer.add(columns.gids)
            case .seconds: writer.add(columns.seconds)
            case .nanoseconds: writer.add(columns.nanoseconds)
            case .parents: writer.add(columns.parents)
            case .first: writer.add(columns.first)
            case .second: writer.add(columns.second)
            case .inodes: writer.add(columns.inodes)
            case .linkCounts: writer.add(columns.linkCounts)
            case .targets: writer.add(columns.targets)
            case .contentKinds: writer.add(columns.contents.map(\.id.kind.rawValue))
            case .contentIDs: writer.add(columns.contentIDs)
            case .contentSizes: writer.add(columns.contents.map(\.size))
            case .contentSources: writer.add(columns.contents.map { UInt32($0.source) })
            case .contentOffsets: writer.add(columns.contents.map(\.offset))
            case .sources: writer.add(sources.heading)
            case .sourceRecords: writer.add(sources.records)
            case .sourceBlocks: writer.add(sources.blocks)
            }
        }
        return writer.finish()
    }

    /// - Throws: `corrupt` for anything that `serialized` cannot have written.
    package static func deserialize(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) -> Tree {
        let isFirstVersion = formatVersion(of: Array(bytes.prefix(48)), magic: treeMagic) == firstTreeVersion
        let reader = try SectionReader(
            bytes, magic: treeMagic, version: isFirstVersion ? firstTreeVersion : treeVersion,
            sectionCount: isFirstVersion ? Section.countInFirstVersion : Section.allCases.count)
        func numbers<Number: FixedWidthInteger>(
            _ type: Number.Type, _ section: Section, _ count: Int? = nil
        ) throws(MCFSError) -> [Number] {
            try reader.numbers(type, of: section.rawValue, count: count)
        }
        var columns = TreeColumns()
        columns.kinds = try numbers(UInt8.self, .kinds)
        let count = columns.kinds.count
        guard UInt32(exactly: count) != nil else { throw damaged("it has too many entries") }
        columns.names = try numbers(UInt8.self, .names)
        columns.nameOffsets = try numbers(UInt32.self, .nameOffsets, count + 1)
        columns.permissions = try numbers(UInt16.self, .permissions, count)
        columns.uids = try numbers(UInt32.self, .uids, count)
        columns.gids = try numbers(UInt32.self, .gids, count)
        columns.seconds = try numbers(Int64.self, .seconds, count)
        columns.nanoseconds = try numbers(UInt32.self, .nanoseconds, count)
        columns.parents = try numbers(UInt32.self, .parents, count)
        columns.first = try numbers(UInt32.self, .first, count)
        columns.second = try numbers(UInt32.self, .second, count)
        columns.inodes = try numbers(UInt32.self, .inodes, count)
        columns.linkCounts = try numbers(UInt32.self, .linkCounts, count)
        columns.targets = try numbers(UInt8.self, .targets)

        let kinds = try numbers(UInt8.self, .contentKinds)
        let ids = reader.bytes(of: Section.contentIDs.rawValue)
        let sizes = try numbers(UInt64.self, .contentSizes, kinds.count)
        let contentSources = try numbers(UInt32.self, .contentSources, kinds.count)
        let offsets = try numbers(UInt64.self, .contentOffsets, kinds.count)
        guard ids.count == kinds.count * 32 else { throw damaged("its contents have no identities") }
        columns.contents.reserveCapacity(kinds.count)
        for index in kinds.indices {
            guard let kind = BlobID.Kind(rawValue: kinds[index]),
                let id = BlobID(kind, padded: UnsafeRawBufferPointer(rebasing: ids[index * 32..<index * 32 + 32]))
            else { throw damaged("content \(index) has no identity") }
            columns.contents.append(
                Content(id: id, size: sizes[index], source: Int(contentSources[index]), offset: offsets[index]))
        }
        let sources: SourceTable
        if isFirstVersion {
            var decoder = FieldReader(reader.bytes(of: Section.sources.rawValue))
            sources = try decoder.sources()
        } else {
            sources = try SourceTable(
                heading: reader.bytes(of: Section.sources.rawValue), records: numbers(UInt8.self, .sourceRecords),
                blocks: numbers(UInt64.self, .sourceBlocks))
        }
        try columns.check(sourceCount: sources.count)
        return Tree(columns: columns, sources: sources)
    }
}

func paddedBytes(of id: BlobID) -> [UInt8] {
    let bytes = id.bytes
    return bytes + repeatElement(0, count: 32 - bytes.count)
}

extension TreeColumns {
    fileprivate var contentIDs: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(contents.count * 32)
        for content in contents { bytes += paddedBytes(of: content.id) }
        return bytes
    }
}

extension FieldReader {
    /// As the first version had them.
    fileprivate mutating func sources() throws(MCFSError) -> SourceTable {
        var sources = SourceTable()
        for _ in 0..<(try number(UInt32.self)) {
            var source = SourceDescriptor([:])
            for _ in 0..<(try number(UInt32.self)) {
                let key = String(decoding: try field(), as: UTF8.self)
                source.properties[key] = String(decoding: try field(), as: UTF8.self)
            }
            sources.append(source)
        }
        guard isAtEnd else { throw damaged("its sources are followed by something") }
        return sources
    }
}
