internal import MCFSCore
internal import Testing

@testable internal import OCI

@Suite("layers that are cut or damaged", .timeLimit(.minutes(5)))
struct HostileLayerTests {
    private static func smallTar() -> [UInt8] {
        TarWriter.tar { tar in
            tar.add(pax: [("comment", "c")], global: true)
            tar.add("dir/", type: "5")
            tar.add("././@LongLink", type: "L", Array(String(repeating: "l", count: 120).utf8) + [0], magic: .gnu)
            tar.add("l", [1, 2, 3], magic: .gnu)
            tar.add(pax: [("path", "p"), ("mtime", "1.5")])
            tar.add("x", LayerFixtures.pattern(600))
            tar.add("link", type: "2", link: "p")
        }
    }

    @Test("every prefix of a tar is an error or the entries before it")
    func prefixes() throws {
        let tar = Self.smallTar()
        let whole = try LayerFixtures.index(tar).entries.map(\.withoutIdentity)
        #expect(whole.count == 4)
        for count in 0...tar.count {
            let prefix = Array(tar.prefix(count))
            for hasRandomAccess in [true, false] {
                do {
                    let entries = try LayerFixtures.index(prefix, hasRandomAccess: hasRandomAccess).entries
                    #expect(whole.starts(with: entries.map(\.withoutIdentity)))
                    // Whoever is shown, is there with all its bytes.
                    for case let content? in entries.map(\.content) {
                        #expect(content.offset + content.size <= UInt64(count))
                    }
                } catch {
                    #expect(error.code == .corrupt)
                    #expect(
                        error.message.contains("truncated") || error.message.contains("no tar"), "\(count): \(error)")
                }
            }
        }
    }

    @Test("a file that is cut in its data is told as truncated, by name")
    func cutInData() throws {
        let tar = TarWriter.tar { $0.add("weights.bin", LayerFixtures.pattern(2000)) }
        for coding in ["tar", "gzip", "zstd"] {
            do {
                _ = try LayerFixtures.index(LayerIndexerTests.coded(Array(tar.prefix(1500)), coding))
                Issue.record("it was accepted")
            } catch let error as MCFSError {
                #expect(error.code == .corrupt)
                #expect(error.message.contains("is truncated"))
                #expect(error.message.contains("'weights.bin'"))
            }
        }
    }

    @Test("every prefix of a compressed layer is refused", arguments: ["gzip", "gzip members", "zstd", "zstd frames"])
    func compressedPrefixes(coding: String) throws {
        let tar = TarWriter.tar { tar in
            for index in 0..<3 { tar.add("f\(index)", LayerFixtures.pattern(100, seed: UInt64(index))) }
        }
        let layer = try LayerIndexerTests.coded(tar, coding)
        // Without a digest to save us: the decoder or the tar must notice, unless only the tar's end is gone.
        for count in 0..<layer.count {
            let prefix = Array(layer.prefix(count))
            do {
                let entries = try LayerFixtures.index(prefix).entries
                #expect(entries.count == 3 || count == 0)
            } catch {
                #expect(error.code == .corrupt)
            }
            #expect(throws: MCFSError.self) {
                _ = try LayerFixtures.index(LayerFixtures.Source(prefix), LayerFixtures.digest(layer))
            }
        }
    }

    @Test("random damage never crashes or hangs", arguments: ["tar", "gzip", "zstd frames"])
    func damage(coding: String) throws {
        let layer = try LayerIndexerTests.coded(Self.smallTar(), coding)
        for seed in 0..<3000 as Range<UInt64> {
            var random = LayerFixtures.Random(seed: seed)
            var bytes = layer
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let index = Int.random(in: 0..<bytes.count, using: &random)
                bytes[index] = UInt8.random(in: 0...255, using: &random)
            }
            let hasRandomAccess = seed % 2 == 0
            do {
                _ = try LayerFixtures.index(bytes, hasRandomAccess: hasRandomAccess, pieceBytes: 333)
            } catch {
                #expect([.corrupt, .unsupported].contains(error.code), "seed \(seed): \(error)")
            }
        }
    }

    @Test("random damage to headers with right checksums never crashes or hangs")
    func damagedFields() throws {
        let tar = Self.smallTar()
        for seed in 0..<3000 as Range<UInt64> {
            var random = LayerFixtures.Random(seed: seed)
            var bytes = tar
            let block = Int.random(in: 0..<bytes.count / 512, using: &random) * 512
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                bytes[block + Int.random(in: 0..<512, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            // The typeflag often, since it decides most.
            if seed % 3 == 0 {
                bytes[block + 156] = Array("0123457xgLKSDVMX".utf8).randomElement(using: &random) ?? 0
            }
            bytes.replaceSubrange(block + 148..<block + 156, with: Array("        ".utf8))
            let sum = bytes[block..<block + 512].reduce(Int64(0)) { $0 + Int64($1) }
            bytes.replaceSubrange(block + 148..<block + 155, with: TarWriter.octal(sum, 7))
            do {
                let ranged = try LayerFixtures.index(bytes).entries
                let streamed = try LayerFixtures.index(bytes, hasRandomAccess: false, pieceBytes: 100).entries
                #expect(ranged.map(\.withoutIdentity) == streamed.map(\.withoutIdentity))
            } catch {
                #expect([.corrupt, .unsupported].contains(error.code), "seed \(seed): \(error)")
            }
        }
    }
}
