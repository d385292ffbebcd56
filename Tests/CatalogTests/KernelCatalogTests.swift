import FoundationEssentials
import GRDB
import Glibc
import MCFSCore
import Testing

@testable import Catalog

@Suite("What is known of kernels") struct KernelCatalogTests {
    private let folder = TemporaryFolder()
    private var place: String { folder.path + "/cache" }

    /// Descriptions of all lengths, with keys that contain each other.
    private func kernels(_ numbers: some Sequence<Int>, _ word: String = "description") -> [(
        key: [UInt8], description: [UInt8]
    )] {
        numbers.map { number in
            (Array("kernel \(number)".utf8), Array(String(repeating: "\(word) \(number)\0", count: number % 7).utf8))
        }
    }

    private func change(_ sql: String, _ arguments: StatementArguments = []) throws {
        try DatabaseQueue(path: place + "/catalog.db").write { try $0.execute(sql: sql, arguments: arguments) }
    }

    private func count(_ table: String) throws -> Int? {
        try DatabaseQueue(path: place + "/catalog.db").read {
            try Int.fetchOne($0, sql: "SELECT COUNT(*) FROM \(table)")
        }
    }

    @Test("how often kernels were used survives a restart, and the last word counts") func uses() throws {
        do {
            let catalog = try Catalog(directory: place)
            try catalog.saveKernelUses(["x": .init(hits: 1, last: 5), "y": .init(hits: .max, last: 6)], at: "/m")
            try catalog.saveKernelUses(["x": .init(hits: 2, last: 7)], at: "/m")
        }
        let catalog = try Catalog(directory: place)
        #expect(
            try catalog.kernelUses(at: "/m")
                == ["x": .init(hits: 2, last: 7), "y": .init(hits: UInt64(Int64.max), last: 6)])
        #expect(try catalog.kernelUses(at: "/other").isEmpty)
    }

    @Test("what is known of kernels survives a restart") func descriptions() throws {
        do {
            let catalog = try Catalog(directory: place)
            try catalog.saveKernelDescriptions(kernels(0..<1000))
            try catalog.saveKernelDescriptions([])
        }
        let catalog = try Catalog(directory: place)
        #expect(
            try catalog.kernelDescriptions(of: kernels(0..<1001).map(\.key))
                == kernels(0..<1000).map(\.description) + [nil])
        #expect(try catalog.kernelDescriptions(of: []) == [])
    }

    @Test("what is saved again takes the page with it in which it was, and no others") func savedAgain() throws {
        let catalog = try Catalog(directory: place)
        try catalog.saveKernelDescriptions(kernels(0..<1000))
        try catalog.saveKernelDescriptions(kernels([1, 255, 512], "other"))
        var expected: [[UInt8]?] = kernels(0..<1000).map(\.description)
        for number in [0..<256, 512..<768].joined() { expected[number] = nil }
        for (number, kernel) in zip([1, 255, 512], kernels([1, 255, 512], "other")) {
            expected[number] = kernel.description
        }
        #expect(try catalog.kernelDescriptions(of: kernels(0..<1000).map(\.key)) == expected)
        try catalog.saveKernelDescriptions(kernels(0..<256))
        for number in 0..<256 { expected[number] = kernels([number])[0].description }
        expected[512] = nil
        #expect(try catalog.kernelDescriptions(of: kernels(0..<1000).map(\.key)) == expected)
        #expect(try count("kernelPage") == 3)
    }

    @Test("kernels are found in any order, twice, and among others that are not known") func anyOrder() throws {
        let catalog = try Catalog(directory: place)
        var known: [[UInt8]: [UInt8]] = [:]
        let seed = UInt64.random(in: 0...UInt64.max)
        var random = SeededGenerator(seed: seed)
        for round in 0..<20 {
            let unknown = kernels(0..<900).filter { known[$0.key] == nil }
            let some = unknown.filter { _ in Int.random(in: 0..<10, using: &random) < 3 }.shuffled(using: &random)
            try catalog.saveKernelDescriptions(some)
            for (key, description) in some { known[key] = description }
            let first = Int.random(in: 0..<1200, using: &random)
            for numbers in [Array(0..<1200), (0..<1200).shuffled(using: &random), [first, first, 0, first]] {
                let keys = kernels(numbers).map(\.key)
                #expect(
                    try catalog.kernelDescriptions(of: keys) == keys.map { known[$0] }, "seed \(seed), round \(round)")
            }
        }
    }

    @Test(
        "a page that is cut or changed tells of a kernel what was saved of it, or nothing that is longer than the page")
    func damagedPages() {
        let saved = kernels(0..<20)
        let whole = KernelPage.bytes(of: saved)
        for count in 0..<whole.count {
            var page = KernelPage(Array(whole[..<count]))
            for (key, description) in saved {
                for found in [page.next(key), page.find(key)] {
                    #expect(found == nil || found == description, "\(count) bytes")
                }
            }
        }
        let seed = UInt64.random(in: 0...UInt64.max)
        var random = SeededGenerator(seed: seed)
        for _ in 0..<5000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            var page = KernelPage(bytes)
            for (key, _) in saved {
                for found in [page.next(key), page.find(key)] {
                    #expect((found?.count ?? 0) < bytes.count, "seed \(seed)")
                }
            }
        }
    }

    @Test("pages that are none, or not there, tell nothing, and are made anew") func noPages() throws {
        let saved = kernels(0..<20)
        let keys = saved.map(\.key)
        let catalog = try Catalog(directory: place)
        try catalog.saveKernelDescriptions(saved)
        for wrong in ["5", "NULL", "'text'", "X''"] {
            try change("DROP TABLE kernelPage; CREATE TABLE kernelPage (number INTEGER PRIMARY KEY, descriptions)")
            try change("INSERT INTO kernelPage VALUES (1, \(wrong))")
            let found = (try? catalog.kernelDescriptions(of: keys)) ?? []
            #expect(found.allSatisfy { $0 == nil }, "\(wrong)")
        }
        try change("DROP TABLE kernelPage; CREATE TABLE kernelPage (number INTEGER PRIMARY KEY, descriptions BLOB)")
        #expect(try catalog.kernelDescriptions(of: keys).allSatisfy { $0 == nil })
        try catalog.saveKernelDescriptions(saved)
        #expect(try catalog.kernelDescriptions(of: keys) == saved.map(\.description))
    }

    @Test("the oldest go beyond the bound, and the pages of which nothing is left") func bound() throws {
        let catalog = try Catalog(directory: place)
        try catalog.saveKernelDescriptions(kernels(0..<300))
        try catalog.saveKernelDescriptions(kernels(300..<310))
        #expect(try count("kernelPage") == 3)
        // As if as many had been saved since.
        try change(
            "UPDATE kernel SET rowid = rowid + ? WHERE rowid > 260", [Catalog.kernelDescriptionsMax])
        try catalog.saveKernelDescriptions(kernels(310..<311))
        #expect(try count("kernel") == 51)
        #expect(try count("kernelPage") == 3)
        let found = try catalog.kernelDescriptions(of: kernels(0..<311).map(\.key))
        #expect(found == Array(repeating: nil, count: 260) + kernels(260..<311).map(\.description))
    }

    @Test("a catalog of a mcfs that kept descriptions one by one is taken over without them") func migration() throws {
        let pin = Catalog.Pin(reference: "r", resolved: "s", treeKey: "k", include: [], exclude: [])
        do {
            let catalog = try Catalog(directory: place)
            try catalog.add(pin)
            try catalog.saveKernelUses(["x": .init(hits: 1, last: 5)], at: "/m")
        }
        try change(
            """
            DROP TABLE kernel; DROP TABLE kernelPage; DELETE FROM grdb_migrations WHERE identifier = '3';
            CREATE TABLE kernel (key TEXT NOT NULL UNIQUE, description TEXT NOT NULL);
            INSERT INTO kernel VALUES ('kernel 1', '{"name": "k"}')
            """)
        let catalog = try Catalog(directory: place)
        #expect(catalog.warnings.isEmpty)
        #expect(try catalog.pins() == [pin])
        #expect(try catalog.kernelUses(at: "/m") == ["x": .init(hits: 1, last: 5)])
        #expect(try catalog.kernelDescriptions(of: kernels(0..<3).map(\.key)) == [nil, nil, nil])
        try catalog.saveKernelDescriptions(kernels(0..<3))
        #expect(try catalog.kernelDescriptions(of: kernels(0..<3).map(\.key)) == kernels(0..<3).map(\.description))
    }
}
