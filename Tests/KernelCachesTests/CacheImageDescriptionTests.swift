import Catalog
import GPUCompat
import MCFSCore
import Testing

@testable import KernelCaches

@Suite("What an image is to say of a cache")
struct CacheImageDescriptionTests {
    /// Metadata of a kernel for sm_90, or what a test puts in its place.
    static func metadata(arch: String = "90") -> [UInt8] {
        Array(
            #"{"name": "k", "num_warps": 4, "num_stages": 3, "target": {"backend": "cuda", "arch": \#(arch), "warp_size": 32}}"#
                .utf8)
    }
    static let key = "5B2P6VYZHCQ4YRRZPUZ3DVTQH5JVXGL2VJVBAPVYYDN5KQQMTPPQ"
    static let other = "A" + key.dropFirst()

    static func describe(
        _ paths: [String], below folder: String = "c", metadata: (String) -> [UInt8] = { _ in metadata() }
    ) throws -> CacheImageDescription? {
        let tree = try makeTree(withBinaries(paths))
        let survey = KernelSurvey(tree)
        let descriptions = survey.entries.map { entry in
            let name = tree.withName(of: entry.directory) { Array($0) }
            let file = entry.metadata.first.map { metadata(tree.path(of: $0).description) }
            return KernelDescription(entry.kind, directoryName: name, metadata: file)
        }
        return CacheImageDescription(of: try TreePath(folder), in: survey, descriptions, root: "/root/.cache/vllm")
    }

    @Test("what is written of a cache of Triton's is read back as its metadata has it")
    func triton() throws {
        let tree = try Fixture.tree()
        let survey = KernelSurvey(tree)
        let descriptions = try survey.entries.map { entry in
            let file = try #require(entry.metadata.first)
            return KernelDescription(
                .triton, directoryName: tree.withName(of: entry.directory) { Array($0) },
                metadata: try Fixture.bytes(tree.path(of: file).description))
        }
        let image = try #require(
            CacheImageDescription(of: try TreePath("cache"), in: survey, descriptions, root: "/c"))
        let rows = Fixture.kernels.filter { $0.directory.hasPrefix("cache/") }
        #expect(rows.count == 12)
        #expect((image.cacheFolder, image.manifestFolder) == ("io.triton.cache", "io.triton.manifest"))
        #expect(image.labels.keys.allSatisfy { $0.hasPrefix("cache.triton.image/") })

        let summary = try #require(CacheImageSummary(labels: image.labels))
        #expect(summary == image.summary)
        #expect(summary.kind == .triton && summary.isReliable && summary.entryCount == rows.count)
        #expect(
            summary.bytes == UInt64(Fixture.rows.filter { $0.directory.hasPrefix("cache/") }.flatMap(\.files).count))
        let manifest = try #require(CacheManifest(image.manifest))
        #expect(manifest.descriptions.count == rows.count)
        var targets: Set<KernelTarget> = []
        for (entry, description) in zip(survey.entries, descriptions)
        where tree.path(of: entry.directory).description.hasPrefix("cache/") {
            var expected = description
            expected.tritonVersion = nil
            #expect(manifest.description(of: entry, in: tree) == expected)
            targets.formUnion(description.targets)
        }
        #expect(Set(summary.targets) == targets && summary.targets.count == targets.count)
    }

    @Test(
        "of vLLM's directories it tells how they are stored and where they are to be, and what their kernels are for",
        arguments: [
            (["torch_compile_cache/0123456789/rank_0_0/triton_cache/<K>/k.json"], "triton", ["sm_90"], true),
            // Its kernels tell what the artefact beside them is for; readers see by the format that it is there.
            (
                [
                    "torch_compile_cache/0123456789/rank_0_0/backbone/artifact_compile_range_1_8192_subgraph_0",
                    "torch_compile_cache/0123456789/rank_0_0/triton_cache/<K>/k.json",
                ], "binary", ["sm_90"], false
            ),
            (["torch_compile_cache/0123456789/rank_0_0/backbone/artifact_compile_range_1_2"], "binary", [], false),
            (["torch_compile_cache/torch_aot_compile/<H>/rank_0_0/model"], "aot_compile", [], false),
            (
                [
                    "torch_compile_cache/0123456789/rank_0_0/triton_cache/<K>/k.json",
                    "torch_compile_cache/torch_aot_compile/<H>/rank_0_0/model",
                ], "aot_compile,triton", [], false
            ),
            // Kernels that new versions keep elsewhere count, and so do those that tell nothing.
            (
                ["torch_compile_cache/0123456789/rank_0_0/triton_cache/<K>/k.json", "triton/<L>/80.json"], "triton",
                ["sm_80", "sm_90"], true
            ),
            (
                ["torch_compile_cache/0123456789/rank_0_0/triton_cache/<K>/k.json", "triton/<L>/none.json"], "triton",
                [],
                false
            ),
        ] as [([String], String, [String], Bool)])
    func vllm(_ files: [String], _ format: String, _ targets: [String], _ isReliable: Bool) throws {
        let paths = files.map { file in
            "c/"
                + file.replacing("<K>", with: Self.key).replacing("<L>", with: Self.other)
                .replacing("<H>", with: String(repeating: "ab", count: 32))
        }
        let image = try #require(
            try Self.describe(paths) { path in
                path.hasSuffix("none.json") ? [] : Self.metadata(arch: path.hasSuffix("80.json") ? "80" : "90")
            })
        #expect(image.cacheFolder == "io.vllm.cache")
        let summary = try #require(CacheImageSummary(labels: image.labels))
        #expect(summary == image.summary)
        #expect(summary.kind == .vllm && summary.format == format && summary.isReliable == isReliable)
        #expect(summary.targets.map(\.architecture.description) == targets)
        #expect(summary.bytes == UInt64(withBinaries(files).count))

        let hashes = files.contains { $0.contains("0123456789") } ? ["0123456789"] : []
        let models = files.contains { $0.contains("/<H>/") } ? [String(repeating: "ab", count: 32)] : []
        #expect(summary.entryCount == hashes.count + models.count)
        #expect(image.labels["io.kserve.km/cache-hash"] == (hashes + models).joined(separator: ","))
        #expect(image.labels["io.kserve.km/cache-type"] == "torch-compile")
        #expect(image.labels["io.kserve.km/framework"] == "vllm")
        #expect(image.labels["io.kserve.km/cache-root-env"] == "VLLM_CACHE_ROOT=/root/.cache/vllm")
        #expect(
            image.labels["io.kserve.km/cache-mount-subpath"]
                == (hashes.isEmpty ? "torch_compile_cache/torch_aot_compile" : "torch_compile_cache"))
        let manifest = try #require(CacheManifest(image.manifest))
        #expect(manifest.descriptions.count == (files.contains { $0.contains("/<K>/") } ? 1 : 0))
        #expect(manifest.descriptions.values.allSatisfy { $0.numWarps == 4 && $0.target?.warpSize == 32 })
    }

    @Test(
        "one kernel that does not tell its target keeps the list of targets empty",
        arguments: [
            ["c/<K>/k.json", "c/<L>/none.json"], ["c/<K>/k.json", "c/<L>/a.json", "c/<L>/b.json"],
            ["c/<K>/k.json", "c/flashinfer/0.6.1/90a/lib.so"],
            ["c/<K>/k.json", "c/x/torch_compile_cache/0123456789/a"],
        ])
    func silent(_ files: [String]) throws {
        let paths = files.map { $0.replacing("<K>", with: Self.key).replacing("<L>", with: Self.other) }
        let image = try #require(
            try Self.describe(paths) { $0.hasSuffix("none.json") ? Array("{".utf8) : Self.metadata() })
        #expect(image.labels["cache.triton.image/summary"] == #"{"targets":[]}"#)
        let summary = try #require(CacheImageSummary(labels: image.labels))
        #expect(summary == image.summary)
        #expect(summary.kind == .triton && summary.targets.isEmpty && !summary.isReliable)
        #expect(CacheManifest(image.manifest)?.descriptions.isEmpty == false)
    }

    @Test("a folder without kernels of vLLM or Triton is no cache", arguments: ["c/", "c/weights.bin", "d/<K>/k.json"])
    func nothing(_ file: String) throws {
        #expect(try Self.describe(["c/", file.replacing("<K>", with: Self.key)]) == nil)
    }

    @Test("JSON is read back as it was written, whatever is in its texts")
    func json() throws {
        let value = JSONValue([
            "text": .string("\"\\/\u{0}\n\u{7f}é🙂"), "number": .integer(.min), "none": nil, "null": .null,
            "list": .array([.bool(true), .bool(false), .object([])]), "": .array([]),
        ])
        #expect(try JSONValue(value.bytes) == value)
    }
}
