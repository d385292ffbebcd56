import MCFSCore
import Testing

@testable import Upper

@Suite struct ChangeRecordTests {
    private static func path(_ bytes: [UInt8]) -> TreePath { try! TreePath(bytes) }

    static let records: [ChangeRecord] = {
        let odd = path(Array("a b/%/".utf8) + [0xff, 0x0a, 0x01])
        var metadata = LowerMetadata()
        metadata.permissions = 0o4755
        metadata.uid = 0
        metadata.gid = 4_294_967_294
        metadata.accessed = Timestamp(seconds: -1, nanoseconds: 999_999_999)
        metadata.modified = Timestamp(seconds: 1 << 40, nanoseconds: 7)
        metadata.changed = Timestamp(seconds: 0)
        metadata.linkCount = 3
        metadata.extendedAttributes = [
            Array("user.empty".utf8): [], Array("user.slash".utf8): [0x2f], Array("user.=x y".utf8): Array(0...255),
        ]
        var rename = Rename(from: path(Array("from".utf8)), to: odd)
        var exchange = rename
        rename.fromMark = .whiteout
        rename.toMark = .redirect(odd)
        rename.moves = .max
        exchange.isExchange = true
        exchange.moves = 1
        exchange.movesBack = 2
        var drop = Rename(from: odd, to: odd)
        drop.drops = 3
        return [
            .whiteout(odd), .redirect(odd, to: .root), .redirect(path([0x61]), to: odd), .clear(odd),
            .metadata(odd, LowerMetadata()), .metadata(odd, metadata), .rename(rename), .rename(exchange),
            .rename(drop), .done,
        ]
    }()

    @Test("a record is one line of printable text, and reads back as it was", arguments: records)
    func roundTrip(_ record: ChangeRecord) {
        let line = record.line
        #expect(line.last == 0x0a && line.dropLast().allSatisfy { (0x20..<0x7f).contains($0) })
        #expect(ChangeRecord(line: line.dropLast()) == record)
    }

    @Test("a line that lacks or has another byte anywhere is no record", arguments: records)
    func damage(_ record: ChangeRecord) {
        let line = Array(record.line.dropLast())
        for place in line.indices {
            #expect(ChangeRecord(line: line[..<place]) == nil)
            var other = line
            other[place] ^= 1
            #expect(ChangeRecord(line: other[...]) == nil)
        }
    }
}
