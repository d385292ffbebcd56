internal import Foundation
internal import MCFSCore
internal import Synchronization
internal import Testing

@testable internal import OCI

@Suite("reading a layer's table of contents", .timeLimit(.minutes(5)))
struct LayerIndexerTests {
    static let codings: [String] = [
        "plain", "gzip", "gzip members", "gzip padded", "zstd", "zstd frames", "zstd skippable first", "zstd long",
    ]

    static func coded(_ tar: [UInt8], _ coding: String) throws -> [UInt8] {
        let middle = tar.count / 2 + 3
        func gzip(_ bytes: some Collection<UInt8>) throws -> [UInt8] {
            try LayerFixtures.run(["gzip", "-c", "-6"], input: Array(bytes))
        }
        func zstd(_ bytes: some Collection<UInt8>, _ options: String...) throws -> [UInt8] {
            try LayerFixtures.run(["zstd", "-q", "-c"] + options, input: Array(bytes))
        }
        let skippable: [UInt8] = [0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0, 1, 2, 3, 4, 5]
        return switch coding {
        case "gzip": try gzip(tar)
        case "gzip members": try gzip(tar[..<middle]) + gzip([UInt8]()) + gzip(tar[middle...])
        case "gzip padded": try gzip(tar) + [UInt8](repeating: 0, count: 1000)
        case "zstd": try zstd(tar)
        case "zstd frames": try zstd(tar[..<middle]) + skippable + zstd(tar[middle...])
        case "zstd skippable first": try skippable + zstd(tar) + skippable
        case "zstd long": try zstd(tar, "--long=27", "--ultra", "-3")
        default: tar
        }
    }

    /// A tree as `tar` itself packs it.
    static func realTar(_ format: String) throws -> (tar: [UInt8], files: [String: [UInt8]]) {
        let scratch = try LayerFixtures.Scratch()
        let root = scratch.path + "/root"
        var files: [String: [UInt8]] = [
            "a.txt": Array("hello\n".utf8), "empty": [], "dir/b.bin": LayerFixtures.pattern(70_000),
        ]
        files["dir/" + String(repeating: "n", count: format == "ustar" ? 90 : 150)] = [1, 2, 3]
        if format != "ustar" { files[String(repeating: "deep/", count: 40) + "ünï"] = LayerFixtures.pattern(513) }
        for (path, bytes) in files {
            let url = URL(fileURLWithPath: root + "/" + path)
            try FileManager.default.createDirectory(
                at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(bytes).write(to: url)
        }
        try FileManager.default.createSymbolicLink(atPath: root + "/link", withDestinationPath: "../out/side")
        try FileManager.default.linkItem(atPath: root + "/a.txt", toPath: root + "/z-hard")
        let tar = try LayerFixtures.run(
            [
                "tar", "--format=\(format)", "--sort=name", "--mtime=@1700000000.5", "--owner=root:0",
                "--group=g:4000000", "-c", ".",
            ]
            .filter { format != "ustar" || !$0.hasPrefix("--group") }, directory: root)
        return (tar, files)
    }

    @Test(
        "real tars in every format and coding give the same tree and the same bytes",
        arguments: ["gnu", "pax", "ustar"], codings)
    func realTars(format: String, coding: String) throws {
        let (tar, files) = try Self.realTar(format)
        let layer = try Self.coded(tar, coding)
        let contents = LayerFixtures.Contents()
        let table = try LayerFixtures.index(layer, contents: contents)
        let (found, entries) = (table.coding, table.entries)
        #expect(found.rawValue == coding.split(separator: " ")[0])
        var seen: [String: [UInt8]] = [:]
        for entry in entries {
            guard let content = entry.content else { continue }
            seen[entry.name] = Array(tar[Int(content.offset)..<Int(content.offset + content.size)])
            // Of a plain layer, tiny files are not worth a file of the cache.
            let isStored = content.size >= (found == .plain ? 4096 : 1)
            #expect(contents.committed[content.id] == (isStored ? seen[entry.name] : nil))
            if let bytes = seen[entry.name] { #expect(content.id == BlobID(Digest.sha256(of: bytes))) }
        }
        #expect(seen == files)
        let link = try #require(entries.first { $0.name == "link" })
        #expect(link.kind == .symlink(target: Array("../out/side".utf8)))
        let hard = try #require(entries.first { $0.name == "z-hard" })
        #expect(hard.kind == .hardLink(try TreePath("a.txt")))
        if format != "ustar" { #expect(hard.gid == 4_000_000) }
        #expect(hard.modified == Timestamp(seconds: 1_700_000_000, nanoseconds: format == "pax" ? 500_000_000 : 0))
        #expect(entries.filter { $0.kind == .directory }.count == (format == "ustar" ? 2 : 42))
    }

    @Test("a layer whose bytes are not its digest's gives nothing", arguments: codings)
    func wrongDigest(coding: String) throws {
        let layer = try Self.coded(TarWriter.tar { $0.add("a", LayerFixtures.pattern(5000)) }, coding)
        do {
            _ = try LayerFixtures.index(LayerFixtures.Source(layer), Digest.sha256(of: [1]))
            Issue.record("it was accepted")
        } catch {
            #expect(error.code == .corrupt)
            #expect(error.message.contains("digest"))
        }
    }

    @Test("a sha512 digest is checked too")
    func sha512() throws {
        let layer = try Self.coded(TarWriter.tar { $0.add("a", [1]) }, "gzip")
        let hex = try String(decoding: LayerFixtures.run(["sha512sum"], input: layer).prefix(128), as: UTF8.self)
        let digest = try #require(Digest("sha512:" + hex))
        #expect(try LayerFixtures.index(LayerFixtures.Source(layer), digest).entries.count == 1)
    }

    @Test("what follows the end of the tar is read for the digest and means nothing else")
    func trailingData() throws {
        let tar = TarWriter.tar { $0.add("a", [1]) } + LayerFixtures.pattern(300_000)
        let layer = try Self.coded(tar, "gzip")
        let source = LayerFixtures.Source(layer)
        let digest = LayerFixtures.digest(layer)
        #expect(try LayerFixtures.index(source, digest).entries.map(\.name) == ["a"])
        #expect(source.bytesRead == source.size)
        #expect(try LayerFixtures.index(tar).entries.map(\.name) == ["a"])
    }

    @Test("other compressions are named")
    func otherCompressions() throws {
        for (bytes, name) in [
            ([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 1, 2], "xz"), (Array("BZh91AY".utf8), "bzip2"),
            ([4, 0x22, 0x4d, 0x18, 0], "lz4"),
        ] as [([UInt8], String)] {
            do {
                _ = try LayerFixtures.index(bytes)
                Issue.record("it was accepted")
            } catch {
                #expect(error.code == .unsupported)
                #expect(error.message.contains(name))
            }
        }
    }

    private static func twoFiles(_ coding: String) throws -> [UInt8] {
        try coded(
            TarWriter.tar {
                $0.add("a", LayerFixtures.pattern(300_000))
                $0.add("b", [1])
            }, coding)
    }

    @Test("a cache that refuses files does not change what they are known by", arguments: ["plain", "gzip", "zstd"])
    func refusingCache(coding: String) throws {
        let layer = try Self.twoFiles(coding)
        let refused = try LayerFixtures.index(layer, contents: LayerFixtures.Contents(failure: .begin))
        #expect(refused == (try LayerFixtures.index(layer)))
    }

    @Test(
        "files that were begun and cannot be handed over fail the index",
        arguments: [LayerFixtures.Contents.Failure.write, .commit], ["plain", "gzip", "zstd"])
    func failingCache(failure: LayerFixtures.Contents.Failure, coding: String) throws {
        let layer = try Self.twoFiles(coding)
        let contents = LayerFixtures.Contents(failure: failure)
        let error = #expect(throws: MCFSError.self) { try LayerFixtures.index(layer, contents: contents) }
        #expect(error?.code == .localIO)
    }

    @Test(
        "a job that is given up while files are handed over ends the index as cancelled",
        arguments: [LayerFixtures.Contents.Failure.begin, .write, .commit], ["plain", "gzip", "zstd"])
    func cancelled(failure: LayerFixtures.Contents.Failure, coding: String) throws {
        let contents = LayerFixtures.Contents(failure: failure, code: .cancelled)
        let error = #expect(throws: MCFSError.self) {
            try LayerFixtures.index(Self.twoFiles(coding), contents: contents)
        }
        #expect(error?.code == .cancelled)
    }

    @Test("ten thousand small files cost few requests and are all handed over")
    func smallFiles() throws {
        let data = LayerFixtures.pattern(5900)
        var writer = TarWriter()
        for index in 0..<10_000 {
            writer.add("cache/\(index % 100)/kernel-\(index).json", Array("\(index)".utf8) + data)
        }
        writer.end()
        let source = LayerFixtures.Source(writer.bytes, pieceBytes: 1 << 20)
        let contents = LayerFixtures.Contents()
        let progress = LayerFixtures.Progress()
        let entries = try LayerFixtures.index(source, Digest.sha256(of: writer.bytes), contents, progress).entries
        #expect(source.size > 60_000_000)
        #expect(source.requests.count <= 25)
        #expect(source.bytesRead <= source.size)
        #expect(contents.committed.count == 10_000)
        for index in [0, 1, 57, 9_999] {
            let id = try #require(entries[index].content?.id)
            #expect(contents.committed[id] == Array("\(index)".utf8) + data)
        }
        #expect(progress.reports.last?.done == source.size)
        #expect(progress.reports.last?.phase.hasPrefix("indexing layer ") == true)
    }

    @Test("large files are hopped over: a 9 GiB file costs one more request")
    func largeFiles() throws {
        let large: Int64 = 9 << 30
        let first = TarWriter.header(Array("one".utf8), size: TarWriter.base256(large, 12))
        var writer = TarWriter()
        writer.add("two", LayerFixtures.pattern(5000))
        writer.add(header: TarWriter.header(Array("three".utf8), size: TarWriter.octal(1 << 30, 12)))
        let third = 512 + UInt64(large) + UInt64(writer.bytes.count) + 1 << 30
        var last = TarWriter()
        last.add("four", [4])
        last.end()
        let source = LayerFixtures.Source(
            size: third + UInt64(last.bytes.count),
            segments: [(0, first), (512 + UInt64(large), writer.bytes), (third, last.bytes)])
        let contents = LayerFixtures.Contents()
        let entries = try LayerFixtures.index(source, Digest.sha256(of: [0]), contents).entries
        #expect(entries.map(\.name) == ["one", "two", "three", "four"])
        #expect(entries.map(\.content?.size) == [9 << 30, 5000, 1 << 30, 1])
        #expect(entries.last?.content?.offset == third + 512)
        #expect(source.requests.count == 3)
        #expect(source.bytesRead <= 3 * 64 << 10)
        #expect(
            entries[2].content?.id
                == BlobID(
                    origin: "layer", Digest.sha256(of: [0]).description, "\(entries[2].content?.offset ?? 0)",
                    "\(1 << 30)"))
        // None but what was read whole has a digest, and what is tiny is not handed over.
        #expect(entries.map(\.content?.id.kind) == [.origin, .sha256, .origin, .sha256])
        #expect(contents.committed.count == 1)
    }

    @Test("a plain layer all of whose bytes pass is checked: one that is altered anywhere is refused")
    func altered() throws {
        let names = (0..<40).map { "f\($0)" }
        var writer = TarWriter()
        for (index, name) in names.enumerated() {
            writer.add(name, LayerFixtures.pattern(1 + index * 700, seed: UInt64(index)))
        }
        writer.end()
        let layer = writer.bytes + [UInt8](repeating: 0, count: 300_000)
        #expect(layer.count > 500_000)
        let digest = LayerFixtures.digest(layer)
        let source = LayerFixtures.Source(layer)
        #expect(try LayerFixtures.index(source, digest).entries.map(\.name) == names)
        #expect(source.bytesRead == source.size)
        // In data, in padding, in what follows the end.
        for place in [600, 1100, 300_000, writer.bytes.count - 700, writer.bytes.count + 10, layer.count - 1] {
            var changed = layer
            changed[place] ^= 0x10
            let error = #expect(throws: MCFSError.self) {
                try LayerFixtures.index(LayerFixtures.Source(changed), digest)
            }
            #expect(error?.code == .corrupt, "\(place)")
        }
    }

    @Test("a plain layer with data that were passed over, or a long tail, is not read to its end for its digest")
    func notAllPassed() throws {
        var writer = TarWriter()
        writer.add("large", LayerFixtures.pattern(2 << 20))
        writer.add("small", LayerFixtures.pattern(5000))
        writer.end()
        let hopped = LayerFixtures.Source(writer.bytes)
        #expect(try LayerFixtures.index(hopped, Digest.sha256(of: [0])).entries.count == 2)
        #expect(hopped.bytesRead < 200_000)
        let tar = TarWriter.tar { $0.add("small", LayerFixtures.pattern(100_000)) }
        let tailed = LayerFixtures.Source(tar + [UInt8](repeating: 1, count: 3 << 20))
        #expect(try LayerFixtures.index(tailed, Digest.sha256(of: [0])).entries.count == 1)
        #expect(tailed.bytesRead < 1 << 20)
    }

    @Test("a file that ends a little behind the window is read through and handed over")
    func nearFiles() throws {
        let data = (0..<3 as Range<UInt64>).map { LayerFixtures.pattern(200_000, seed: $0) }
        let tar = TarWriter.tar { tar in
            for (name, data) in zip(["a", "b", "c"], data) { tar.add(name, data) }
        }
        let source = LayerFixtures.Source(tar)
        let contents = LayerFixtures.Contents()
        _ = try LayerFixtures.index(source, LayerFixtures.digest(tar), contents)
        #expect(Set(contents.committed.values) == Set(data))
        #expect(source.bytesRead > source.size - 1024)
    }

    @Test("many middle-sized files are read through after some hops")
    func middleFiles() throws {
        let count = 2000
        let size: UInt64 = 1 << 20
        let segments = (0..<count).map { index in
            (
                UInt64(index) * (size + 512),
                TarWriter.header(Array("f\(index)".utf8), size: TarWriter.octal(Int64(size), 12))
            )
        }
        let source = LayerFixtures.Source(size: UInt64(count) * (size + 512), segments: segments, pieceBytes: 8 << 20)
        var scan = TarScan(source, size: source.size, name: "x", deadline: LayerFixtures.deadline)
        var members = 0
        while let member = try scan.next() {
            members += 1
            if let data = try scan.data(of: member) { #expect(data.count == Int(size)) }
        }
        #expect(members == count)
        #expect(source.requests.count < count / 2)
    }

    @Test("from the first kernel on, files that are not small are passed over", arguments: ["kernel.cubin", "weights"])
    func kernels(name: String) throws {
        let bytes = LayerFixtures.pattern(200_000)
        let layer = TarWriter.tar { for number in 0..<20 { $0.add("entry\(number)/\(name)", bytes) } }
        let source = LayerFixtures.Source(layer)
        let indexer = LayerIndexer(
            digest: LayerFixtures.digest(layer), size: source.size, source: source, content: LayerFixtures.Contents(),
            progress: LayerFixtures.Progress(), isKernel: { $0.elementsEqual("kernel.cubin".utf8) })
        #expect(try indexer.index(deadline: LayerFixtures.deadline).entries.count == 20)
        #expect(source.bytesRead >= source.size - 1024 || name == "kernel.cubin")
        #expect(source.bytesRead <= source.size / 10 || name == "weights")
    }

    @Test("tiny files are handed over from the first kernel on: they are metadata")
    func kernelMetadata() throws {
        let layer = TarWriter.tar {
            $0.add("before.json", [1])
            $0.add("entry/kernel.cubin", LayerFixtures.pattern(5000))
            $0.add("entry/kernel.json", [2])
        }
        let contents = LayerFixtures.Contents()
        let indexer = LayerIndexer(
            digest: LayerFixtures.digest(layer), size: UInt64(layer.count), source: LayerFixtures.Source(layer),
            content: contents, progress: LayerFixtures.Progress(), isKernel: { $0.elementsEqual("kernel.cubin".utf8) })
        _ = try indexer.index(deadline: LayerFixtures.deadline)
        #expect(Set(contents.committed.values) == [LayerFixtures.pattern(5000), [2]])
    }

    @Test("an error of the source ends the index with that error", arguments: ["tar", "gzip", "zstd"])
    func sourceFails(coding: String) throws {
        let layer = try Self.coded(
            TarWriter.tar { for i in 0..<40 { $0.add("f\(i)", LayerFixtures.pattern(9000, seed: UInt64(i))) } }, coding)
        for failsAt in [0, 1, 60_000, 65_537, 200_000] as [UInt64] {
            let source = LayerFixtures.Source(layer, pieceBytes: 1000, failsAt: failsAt)
            do {
                _ = try LayerFixtures.index(source, LayerFixtures.digest(layer))
                Issue.record("it was accepted")
            } catch {
                #expect(error.code == .originUnavailable && error.isTransient)
            }
        }
    }

    @Test("a layer that cannot be decompressed fails while its source still stalls")
    func stalledSource() throws {
        let release = DispatchSemaphore(value: 0)
        defer { release.signal() }
        let broken: [UInt8] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3] + [UInt8](repeating: 0xff, count: 100_000)
        let source = LayerFixtures.Source(broken, hasRandomAccess: false, pieceBytes: 50_000) { offset in
            if offset >= 50_000 { release.wait() }
        }
        do {
            _ = try LayerFixtures.index(source, LayerFixtures.digest(broken))
            Issue.record("it was accepted")
        } catch {
            #expect(error.code == .corrupt)
        }
    }

    @Test("a source that never answers ends with the deadline")
    func deadline() throws {
        let release = DispatchSemaphore(value: 0)
        defer { release.signal() }
        let source = LayerFixtures.Source([0x1f, 0x8b], hasRandomAccess: false) { _ in release.wait() }
        let indexer = LayerIndexer(
            digest: Digest.sha256(of: []), size: 2, source: source, content: LayerFixtures.Contents(),
            progress: LayerFixtures.Progress())
        do {
            _ = try indexer.index(deadline: Deadline(after: .milliseconds(20)))
            Issue.record("it was accepted")
        } catch {
            #expect(error.code == .timedOut)
        }
    }

    @Test("an empty layer has no entries")
    func empty() throws {
        #expect(try LayerFixtures.index([]).entries.isEmpty)
        #expect(try LayerFixtures.index([UInt8](repeating: 0, count: 1024)).entries.isEmpty)
        #expect(try LayerFixtures.index(Self.coded([], "gzip")).entries.isEmpty)
        #expect(try LayerFixtures.index([], hasRandomAccess: false).entries.isEmpty)
    }
}
