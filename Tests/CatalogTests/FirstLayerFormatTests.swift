import MCFSCore
import Testing

@testable import Catalog

@Suite("trees and layers of the first layer format") struct FirstLayerFormatTests {
    private let folder = TemporaryFolder()
    private var place: String { folder.path + "/cache" }
    private let digest = Digest.sha256(of: [1])
    private static let size: UInt64 = 1000

    /// A file of version 1, which had no coding.
    private func writeFirst() throws {
        var writer = SectionWriter(magic: "mcfsLAYR", version: 1, sectionCount: 2, reservingBytes: 0)
        writer.add([UInt64(0)])
        writer.add([UInt8]())
        try write(writer.finish(), to: "\(place)/layers/sha256-\(digest.hex).layer")
    }

    private func tree(_ coding: String, _ type: String, _ contents: [Content], kind: String = "oci-layer") throws
        -> Tree
    {
        var builder = TreeBuilder()
        let source = SourceDescriptor([
            "kind": kind, "digest": "\(digest)", "size": "\(Self.size)", "mediaType": type, "coding": coding,
        ])
        let entries = contents.enumerated().map { TreeEntry(path("f\($0)"), .file($1), permissions: 0o644) }
        try builder.apply(layer: entries, sources: [source])
        return try builder.build()
    }

    private static let place = content("place", offset: 512, size: 100)
    private static let known = Content(
        id: BlobID(Digest.sha256(of: [2])) ?? BlobID(origin: "none"), size: 100, source: 0, offset: 512)
    private static let empty = Content(
        id: BlobID(Digest.sha256(of: [])) ?? BlobID(origin: "none"), size: 0, source: 0, offset: 512)
    private static let far = content("far", offset: 950, size: 100)
    private static let tar = "application/vnd.oci.image.layer.v1.tar"

    @Test("what took compressed bytes for files is thrown away, once, with a warning; what is right stays")
    func mends() throws {
        let wrong = [
            try tree("tar", Self.tar + "+gzip", [Self.place]), try tree("tar", Self.tar + "+zstd", [Self.place]),
            try tree("tar", "application/vnd.docker.image.rootfs.diff.tar.gzip", [Self.place]),
            try tree("tar", Self.tar, [Self.known, Self.place]), try tree("tar", Self.tar, [Self.far]),
            try tree("gzip", Self.tar + "+gzip", [Self.place]), try tree("compressed", Self.tar, [Self.place]),
        ]
        let right = [
            try tree("tar", Self.tar, [Self.place, Self.empty]), try tree("gzip", Self.tar + "+gzip", [Self.known]),
            try tree("compressed", Self.tar + "+zstd", [Self.known, Self.empty]),
            try tree("raw", "x/gzip", [Self.place]),
            try tree("tar", Self.tar + "+gzip", [Self.known], kind: "s3"),
        ]
        do {
            let catalog = try Catalog(directory: place)
            for (number, tree) in wrong.enumerated() { try catalog.save(tree, key: "wrong-\(number)") }
            for (number, tree) in right.enumerated() { try catalog.save(tree, key: "right-\(number)") }
        }
        try writeFirst()
        let catalog = try Catalog(directory: place)
        #expect(catalog.warnings.count == 1 + wrong.count)
        #expect(catalog.warnings.allSatisfy { $0.contains("thrown away") })
        #expect(names(of: place + "/layers").isEmpty)
        for number in wrong.indices { #expect(try catalog.tree("wrong-\(number)") == nil, "wrong-\(number)") }
        for number in right.indices { #expect(try catalog.tree("right-\(number)") != nil, "right-\(number)") }
        #expect(try Catalog(directory: place).warnings.isEmpty)
    }

    @Test("layers of this format are left alone, and so are trees where there are no others") func leavesOthers() throws
    {
        let table = LayerTable(coding: .gzip, entries: [file("a", "x")])
        do {
            let catalog = try Catalog(directory: place)
            try catalog.saveLayer(digest, table)
            try catalog.save(tree("plain", Self.tar + "+gzip", [Self.place]), key: "k")
        }
        let catalog = try Catalog(directory: place)
        #expect(catalog.warnings.isEmpty)
        #expect(try catalog.layer(digest) == table)
        #expect(try catalog.tree("k") != nil)
    }
}
