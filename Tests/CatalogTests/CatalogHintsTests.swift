import Catalog
import Glibc
import MCFSCore
import MCFSTestSupport
import Synchronization
import Testing

@Suite struct CatalogHintsTests {
    private let folder = TemporaryDirectory()

    @Test("what cannot be kept is told once and fails nothing; what is known is found") func failing() throws {
        let catalog = try Catalog(directory: folder.path)
        let failures = Lock<[MCFSError]>([])
        let hints = CatalogHints(catalog) { error in failures.withLock { $0.append(error) } }
        let resolution = Catalog.Resolution(reference: "r", resolved: "r@1", treeKey: "key")
        hints.record(resolution)
        #expect(failures.withLock { $0.isEmpty })
        for name in ["trees", "layers"] { #expect(rmdir(folder.path + "/" + name) == 0) }
        let digest = Digest.sha256(of: [])
        for _ in 0..<2 {
            hints.save(try TreeBuilder().build(), key: "key")
            hints.saveLayer(digest, LayerTable(coding: .plain, entries: []))
        }
        #expect(failures.withLock { $0.map(\.code) } == [.localIO])
        #expect(hints.resolution(of: "r@1") == resolution)
        #expect(hints.tree("key") == nil)
        #expect(hints.layer(digest) == nil)
    }
}
