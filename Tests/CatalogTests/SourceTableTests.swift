import MCFSCore
import Testing

@testable import Catalog

@Suite struct SourceTableTests {
    private static let samples: [SourceDescriptor] = [
        .init([
            "kind": "hf", "path": "data/train-00000.parquet", "size": "17", "etag": String(repeating: "0af", count: 22),
        ]),
        .init([
            "kind": "hf", "path": "data/train-00001.parquet", "size": "18", "etag": String(repeating: "c0", count: 32),
        ]),
        .init([
            "kind": "s3", "bucket": "b", "key": "a/b/c", "etag": "\"d41d8cd98f00b204e9800998ecf8427e-3\"", "size": "0",
        ]),
        .init([:]), .init(["": "", "é": "ü"]), .init(["k": "0"]), .init(["k": "00"]), .init(["k": ""]),
        .init(["k": "ABCDEF0"]), .init(["k": "abcdef"]), .init(["k": "abcde"]),
    ]

    @Test("descriptors come back as they were, by their numbers and in order") func roundTrip() {
        let all = (0..<100).map { Self.samples[$0 * 7 % Self.samples.count] }
        let table = SourceTable(all)
        #expect(Array(table) == all)
        var seen: [SourceDescriptor] = []
        table.forEach { seen.append($0) }
        #expect(seen == all)
    }

    @Test("random descriptors come back as they were") func random() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        var generator = SeededGenerator(seed: seed)
        let letters = Array("0123456789abcdefABC/.\"é")
        var all: [SourceDescriptor] = []
        for _ in 0..<2000 {
            var descriptor = SourceDescriptor([:])
            for key in ["a", "b", "c", "d"] where Bool.random(using: &generator) {
                let count = [0, 1, 3, 200, 300].randomElement(using: &generator) ?? 0
                descriptor.properties[key] = String(
                    (0..<count).map { _ in letters.randomElement(using: &generator) ?? "x" })
            }
            all.append(descriptor)
        }
        let table = SourceTable(all)
        #expect(Array(table) == all, "seed \(seed)")
        let copy = try table.heading.withUnsafeBytes {
            try SourceTable(heading: $0, records: table.records, blocks: table.blocks)
        }
        #expect(copy == table, "seed \(seed)")
        var longer = SourceTable(all.prefix(5))
        longer.append(contentsOf: copy)
        #expect(Array(longer) == all.prefix(5) + all, "seed \(seed)")
        var continued = copy
        continued.append(all[0])
        #expect(Array(continued) == all + [all[0]], "seed \(seed)")
    }

    @Test("descriptors with a key are found, and none where no descriptor has it") func search() {
        let table = SourceTable(Self.samples + Self.samples)
        #expect(table.indices(having: "bucket") == [2, 2 + Self.samples.count])
        #expect(table.indices(having: "other") == [])
    }

    @Test("a listed object or file takes few bytes") func size() {
        let hub = SourceTable(
            (0..<10_000).map {
                SourceDescriptor([
                    "kind": "hf", "path": "data/shard-\($0 / 1000)/sample-\(100_000 + $0).bin",
                    "size": "\(1000 + $0 % 77)",
                    "etag": Digest.sha256(of: "\($0)".utf8).hex, "large": "true",
                ])
            })
        #expect(hub.records.count < 56 * 10_000)
        let s3 = SourceTable(
            (0..<10_000).map {
                SourceDescriptor([
                    "kind": "s3", "bucket": "models", "endpoint": "https://s3.example.com", "region": "eu-central-1",
                    "key": "data/shard-\($0 / 1000)/sample-\(100_000 + $0).bin", "size": "\(1000 + $0 % 77)",
                    "etag": "\"\(Digest.sha256(of: "\($0)".utf8).hex.prefix(32))\"",
                ])
            })
        #expect(s3.records.count < 44 * 10_000)
    }
}
