internal import MCFSCore

private let layerMagic: StaticString = "mcfsLAYR"
private let layerVersion: UInt32 = 2

/// The file format of docs/cache-format.md#layers.
enum LayerFile {
    static func serialize(_ table: LayerTable) -> [UInt8] {
        var fields = FieldWriter()
        for entry in table.entries {
            fields.write(entry.path.bytes)
            fields.write(entry.permissions)
            fields.write(entry.uid)
            fields.write(entry.gid)
            fields.write(entry.modified.seconds)
            fields.write(entry.modified.nanoseconds)
            write(entry.kind, to: &fields)
        }
        var writer = SectionWriter(
            magic: layerMagic, version: layerVersion, sectionCount: 2, reservingBytes: fields.bytes.count + 8)
        writer.add([UInt64(table.entries.count), number(of: table.coding)])
        writer.add(fields.bytes)
        return writer.finish()
    }

    /// - Throws: `corrupt` for anything that `serialize` cannot have written.
    static func deserialize(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) -> LayerTable {
        let reader = try SectionReader(bytes, magic: layerMagic, version: layerVersion, sectionCount: 2)
        let head = try reader.numbers(UInt64.self, of: 0, count: 2)
        guard let coding = LayerCoding.allCases.first(where: { number(of: $0) == head[1] }) else {
            throw damaged("its layer is coded in no known way")
        }
        var fields = FieldReader(reader.bytes(of: 1))
        var entries: [TreeEntry] = []
        for _ in 0..<head[0] {
            let path = try TreePath(try fields.field())
            let permissions = try fields.number(UInt16.self)
            let uid = try fields.number(UInt32.self)
            let gid = try fields.number(UInt32.self)
            let seconds = try fields.number(Int64.self)
            let nanoseconds = try fields.number(UInt32.self)
            let kind = try readKind(from: &fields)
            entries.append(
                TreeEntry(
                    path, kind, permissions: permissions, uid: uid, gid: gid,
                    modified: Timestamp(seconds: seconds, nanoseconds: nanoseconds)))
        }
        guard fields.isAtEnd else { throw damaged("its entries are followed by something") }
        return LayerTable(coding: coding, entries: entries)
    }

    /// The format version of a file that begins with `head`; nil where it is no layer file.
    static func version(of head: [UInt8]) -> UInt32? { formatVersion(of: head, magic: layerMagic) }

    private static func number(of coding: LayerCoding) -> UInt64 {
        switch coding {
        case .plain: 0
        case .gzip: 1
        case .zstd: 2
        }
    }

    private static func write(_ kind: TreeEntry.Kind, to fields: inout FieldWriter) {
        switch kind {
        case .directory: fields.write(UInt8(0))
        case .file(let content):
            fields.write(UInt8(1))
            fields.write(content.id.kind.rawValue)
            fields.bytes += paddedBytes(of: content.id)
            fields.write(content.size)
            fields.write(UInt32(content.source))
            fields.write(content.offset)
        case .symlink(let target):
            fields.write(UInt8(2))
            fields.write(target)
        case .hardLink(let target):
            fields.write(UInt8(3))
            fields.write(target.bytes)
        case .fifo: fields.write(UInt8(4))
        case .characterDevice(let major, let minor):
            fields.write(UInt8(5))
            fields.write(major)
            fields.write(minor)
        case .blockDevice(let major, let minor):
            fields.write(UInt8(6))
            fields.write(major)
            fields.write(minor)
        case .whiteout: fields.write(UInt8(7))
        case .opaque: fields.write(UInt8(8))
        }
    }

    private static func readKind(from fields: inout FieldReader) throws(MCFSError) -> TreeEntry.Kind {
        switch try fields.number(UInt8.self) {
        case 0: return .directory
        case 1:
            guard let idKind = BlobID.Kind(rawValue: try fields.number(UInt8.self)),
                let id = BlobID(idKind, padded: try fields.raw(32))
            else { throw damaged("a content has no identity") }
            let size = try fields.number(UInt64.self)
            let source = try fields.number(UInt32.self)
            let offset = try fields.number(UInt64.self)
            return .file(Content(id: id, size: size, source: Int(source), offset: offset))
        case 2: return .symlink(target: try fields.field())
        case 3: return .hardLink(try TreePath(try fields.field()))
        case 4: return .fifo
        case 5: return .characterDevice(major: try fields.number(UInt32.self), minor: try fields.number(UInt32.self))
        case 6: return .blockDevice(major: try fields.number(UInt32.self), minor: try fields.number(UInt32.self))
        case 7: return .whiteout
        case 8: return .opaque
        default: throw damaged("an entry is of no known kind")
        }
    }
}
