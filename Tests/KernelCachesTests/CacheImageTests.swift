import GPUCompat
import Testing

@testable import KernelCaches

@Suite("Labels and manifests of cache images")
struct CacheImageTests {
    @Test("an image of Triton's cache tells its targets, each once")
    func triton() throws {
        let summary = #"""
            {"targets": [{"backend": "cuda", "arch": "80", "warp_size": 32, "ptx_version": 84},
            {"backend": "hip", "arch": "gfx90a", "warp_size": 64}, {"backend": "cuda", "arch": "80", "warp_size": 32}]}
            """#
        let image = try #require(
            CacheImageSummary(labels: [
                "cache.triton.image/entry-count": "12", "cache.triton.image/cache-size-bytes": "2097152",
                "cache.triton.image/summary": summary, "org.opencontainers.image.title": "cache",
            ]))
        #expect(image.kind == .triton)
        #expect(image.entryCount == 12)
        #expect(image.bytes == 2_097_152)
        #expect(image.targets.map(\.architecture.description) == ["sm_80", "gfx90a"])
        #expect(image.targets.allSatisfy { $0.form == .tritonEntry })
        #expect(image.isReliable)
    }

    @Test(
        "the labels of vLLM's caches are of the kernels in the triton format only",
        arguments: [
            ("triton", true), ("binary", false), ("aot_compile,binary,triton", false), ("unpacked", false),
            (nil, false),
        ] as [(String?, Bool)])
    func vllm(_ format: String?, _ isReliable: Bool) throws {
        var labels = [
            "io.kserve.km/cache-type": "torch-compile", "cache.vllm.image/entry-count": "1",
            "cache.vllm.image/summary": #"{"targets":[{"backend":"cuda","arch":"sm_75","warp_size":32}]}"#,
        ]
        labels["cache.vllm.image/format"] = format
        let image = try #require(CacheImageSummary(labels: labels))
        #expect(image.kind == .vllm)
        #expect(image.targets.map(\.architecture.description) == ["sm_75"])
        #expect(image.isReliable == isReliable)
    }

    @Test(
        "a summary that is not understood, or not all of it, is not relied on",
        arguments: [
            (#"{"targets":[{"backend":"hpu","arch":"","warp_size":0}]}"#, 0),
            (#"{"targets":[{"backend":"cuda","arch":"80","warp_size":32},{"backend":"tpu","arch":"v5"}]}"#, 1),
            (#"{"targets":[{"backend":"cuda","arch":80},{"backend":"cuda","arch":true}]}"#, 1),
            (#"{"targets":[]}"#, 0), (#"{"targets":{}}"#, 0), (#"{}"#, 0), ("[", 0), ("", 0),
            (String(repeating: " ", count: 2 << 20), 0), (String(repeating: "[", count: 1 << 20), 0),
        ])
    func unreliable(_ summary: String, _ count: Int) throws {
        let image = try #require(
            CacheImageSummary(labels: [
                "cache.triton.image/summary": summary, "cache.triton.image/entry-count": "-1",
                "cache.triton.image/cache-size-bytes": "many",
            ]))
        #expect(image.targets.count == count)
        #expect(!image.isReliable)
        #expect(image.entryCount == nil && image.bytes == nil)
    }

    @Test("what an image is, its labels decide in the order of other readers")
    func kind() {
        let labels = { (labels: [String: String]) in CacheImageSummary(labels: labels)?.kind }
        #expect(labels([:]) == nil)
        #expect(labels(["org.opencontainers.image.title": "cache.triton.image"]) == nil)
        #expect(labels(["io.kserve.km/cache-type": "other"]) == nil)
        #expect(labels(["io.kserve.km/cache-type": "habana-recipe", "cache.vllm.image/summary": "{}"]) == .habana)
        #expect(labels(["cache.vllm.image/summary": "{}", "cache.triton.image/summary": "{}"]) == .vllm)
        #expect(labels(["cache.habana.image/summary": "{}", "cache.vllm.image/summary": "{}"]) == .habana)
        // Old images of vLLM's caches have no summary.
        #expect(labels(["cache.vllm.image/entry-count": "3"]) == .vllm)
    }

    static let hash = "172744c1c71bc879221e4c421a333788affecaa14a0170f8110439f54505cc77"

    @Test("a manifest tells what Triton's kernels need, by their hashes")
    func manifest() throws {
        let row =
            #"{"hash": "\#(Self.hash)", "num_stages": 3, "num_warps": 4, "backend": "cuda", "arch": 80, "warp_size": 32}"#
        let other =
            #"{"hash": "\#(String(repeating: "ab", count: 32))", "backend": "hip", "arch": "gfx90a", "warp_size": 64}"#
        for text in [
            "{\"triton\": [\(row), \(other)]}",
            "{\"vllm\": [{\"vllmHash\": \"d4ec7c2a7d\", \"cacheFormat\": \"triton\", \"triton\": [\(row)]}, {\"triton\": [\(other)]}]}",
        ] {
            let manifest = try #require(CacheManifest(Array(text.utf8)))
            #expect(manifest.descriptions.count == 2)
            let description = try #require(manifest.descriptions[Self.hash])
            #expect(description.target?.architecture.description == "sm_80")
            #expect(description.target?.form == .tritonEntry)
            #expect(description.target?.warpSize == 32)
            #expect(description.hash == Self.hash)
            #expect(description.backend == "cuda")
            #expect(description.numWarps == 4 && description.numStages == 3)
            #expect(description.problem == nil)
        }
    }

    @Test("the target that a manifest tells is that of the metadata", arguments: Fixture.kernels)
    func sameAsMetadata(_ row: Fixture.Row) throws {
        let name = try #require(row.directory.split(separator: "/").last)
        let metadata = KernelDescription(
            .triton, directoryName: Array(name.utf8), metadata: try Fixture.bytes("\(row.directory)/\(row.kernel).json")
        )
        let text =
            #"{"triton": [{"hash": "\#(name)", "backend": "\#(row.backend)", "arch": "\#(row.arch)", "warp_size": \#(row.warpSize)}]}"#
        let manifest = try #require(CacheManifest(Array(text.utf8)))
        let hash = try #require(metadata.hash)
        #expect(manifest.descriptions[hash]?.targets == metadata.targets)
    }

    @Test("what a manifest lists with two targets it does not tell")
    func contradictory() throws {
        let rows = ["80", "90", "80"].map { #"{"hash": "\#(Self.hash)", "backend": "cuda", "arch": \#($0)}"# }
        let text = "{\"triton\": [\(rows.joined(separator: ","))]}"
        #expect(try #require(CacheManifest(Array(text.utf8))).descriptions.isEmpty)
        let same = "{\"triton\": [\(rows[0]),\(rows[2])]}"
        #expect(try #require(CacheManifest(Array(same.utf8))).descriptions.count == 1)
    }

    @Test("a row that says nothing has a problem, and what is no row is left out")
    func rows() throws {
        let text = #"{"triton": [{"hash": "\#(Self.hash)", "backend": "xpu", "arch": 1}, {"hash": "x"}, {}, 1, null]}"#
        let manifest = try #require(CacheManifest(Array(text.utf8)))
        #expect(manifest.descriptions.count == 1)
        let problem = manifest.descriptions[Self.hash]?.problem
        #expect(problem == "its row of the image's manifest names a target whose backend 'xpu' is not known")
    }

    @Test(
        "manifests without Triton's kernels have no descriptions; what is no manifest is none",
        arguments: [
            (#"{"habana": [{"graphHash": "1"}]}"#, true),
            (#"{"vllm": [{"cacheFormat": "binary", "binary": [{}]}]}"#, true),
            (#"{"vllm": [1]}"#, true), (#"{"triton": []}"#, true), ("{}", false), ("[]", false), ("", false),
            (#"{"triton": {}}"#, false), (#"{"triton": [}"#, false), (#"{"schemaVersion": 2}"#, false),
        ])
    func others(_ text: String, _ isManifest: Bool) {
        let manifest = CacheManifest(Array(text.utf8))
        #expect((manifest != nil) == isManifest)
        #expect(manifest?.descriptions.isEmpty ?? true)
    }
}
