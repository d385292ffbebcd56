import Catalog
import MCFSCore
import Testing

@testable import KernelCaches

@Suite("Kernels of a tree")
struct KernelSurveyTests {
    static let key = "C4TUJQOHDPEHSIQ6JRBBUMZXRCX75SVBJIAXB6ARAQ47KRIFZR3Q"
    static let other = "2LFH2QG6VPDWF76TZGPCBYTMWJOFKTYXRP7G7HQWEX5H5HYH4VZQ"
    static let hex64 = "172744c1c71bc879221e4c421a333788affecaa14a0170f8110439f54505cc77"

    /// What a survey tells, as lines: kind, path, metadata, marks.
    static func lines(_ paths: [String]) throws -> [String] {
        let tree = try makeTree(paths)
        let survey = KernelSurvey(tree)
        return survey.entries.map { entry in
            var line = "\(entry.kind.rawValue) \(tree.path(of: entry.directory))"
            for file in entry.metadata {
                line += " " + String(decoding: tree.withName(of: file) { Array($0) }, as: UTF8.self)
            }
            if entry.isOpaque { line += " opaque" }
            if !entry.parts.isEmpty { line += " parts \(entry.parts)" }
            return line
        }
    }

    @Test("every directory of the fixture with a target is an entry, and no other")
    func fixture() throws {
        let tree = try Fixture.tree()
        let survey = KernelSurvey(tree)
        #expect(Fixture.rows.count == 37 && Fixture.kernels.count == 35)
        let found = survey.entries.map { tree.path(of: $0.directory).description }
        #expect(Set(found) == Set(Fixture.kernels.map(\.directory)))
        #expect(found.count == Fixture.kernels.count)
        #expect(survey.entries.allSatisfy { $0.kind == .triton && !$0.isOpaque && $0.parts.isEmpty })
        for row in Fixture.rows {
            let directory = try #require(tree.entry(at: TreePath(row.directory)))
            let position = survey.entry(holding: directory)
            #expect((position != nil) == row.hasTarget, "\(row)")
            guard let position else { continue }
            for child in tree.children(of: directory) { #expect(survey.entry(holding: child) == position) }
            let metadata = survey.entries[position].metadata.map { tree.path(of: $0).description }
            #expect(metadata == ["\(row.directory)/\(row.kernel).json"])
        }
        let groups = Fixture.kernels.map { "\($0.directory)/__grp__\($0.kernel).json" }
        #expect(Set(survey.groupFiles.map { tree.path(of: $0).description }) == Set(groups))
        #expect(survey.groupFiles.count == groups.count)
        #expect(survey.entry(holding: Tree.root) == nil)
    }

    @Test(
        "Triton's entries are told by a group, or by a key and what only Triton writes, and need metadata",
        arguments: [
            // A key of each version.
            (["\(key)/k.json", "\(key)/k.ttir"], ["triton \(key) k.json"]),
            (["\(hex64)/k.json", "\(hex64)/k.hsaco"], ["triton \(hex64) k.json"]),
            (
                ["0123456789abcdef0123456789abcdef/k.json", "0123456789abcdef0123456789abcdef/k.cubin"],
                ["triton 0123456789abcdef0123456789abcdef k.json"]
            ),
            (
                [
                    "_lh4AAuyMTqUkeDdbq3E2zylW_3RV-oQj7KKwx7BUmE/k.json",
                    "_lh4AAuyMTqUkeDdbq3E2zylW_3RV-oQj7KKwx7BUmE/k.source",
                ],
                ["triton _lh4AAuyMTqUkeDdbq3E2zylW_3RV-oQj7KKwx7BUmE k.json"]
            ),
            (["\(key)/k.json", "\(key)/__grp__k.json"], ["triton \(key) k.json"]),
            // Names that others give as well: data sets of Hugging Face, TileLang, autotuning of FlashInfer.
            (["\(key)/k.json"], []), (["\(hex64)/dataset_info.json", "\(hex64)/json-train.arrow"], []),
            (["\(hex64)/params.json", "\(hex64)/manifest.json", "\(hex64)/kernel.cubin"], []),
            (["\(hex64)/metadata.json", "\(hex64)/kernel.cubin"], []), (["\(hex64)/autotune_configs.json"], []),
            (["\(key)/k.json", "\(key)/kk.ttir", "\(key)/k.ttir/"], []),
            // Any name, with a group.
            (["mine/k.json", "mine/__grp__k.json"], ["triton mine k.json"]),
            (["mine/k.json", "mine/k.cubin"], []),
            // In any place, as Inductor has them.
            (
                ["inductor_cache/triton/0/\(key)/k.json", "inductor_cache/triton/0/\(key)/k.ptx"],
                ["triton inductor_cache/triton/0/\(key) k.json"]
            ),
            // Without a target.
            (["\(key)/"], []), (["\(key)/__triton_launcher.so"], []), (["\(key)/k.autotune.json"], []),
            (["\(key)/__grp__k.json"], []), (["\(key)/k.cubin"], []), (["\(key)/tmp.pid_1_2/k.json"], []),
            (["\(key)/.json"], []), (["\(key)/k.json -> ../elsewhere"], []), (["\(key)/k.json/"], []),
            // A write that was cut off does not matter.
            (["\(key)/k.json", "\(key)/k.ttir", "\(key)/tmp.pid_1_2/x"], ["triton \(key) k.json"]),
            // The kernel that has a group; two of them are none that one could judge.
            (["\(key)/a.json", "\(key)/k.json", "\(key)/__grp__k.json"], ["triton \(key) k.json a.json"]),
            (["\(key)/a.json", "\(key)/k.json", "\(key)/k.llir"], ["triton \(key) k.json a.json opaque"]),
            (
                ["mine/a.json", "mine/k.json", "mine/__grp__k.json", "mine/__grp__a.json"],
                ["triton mine a.json k.json opaque"]
            ),
            // A place that holds entries is none, even with stray files in it.
            (
                ["c/k.json", "c/__grp__k.json", "c/\(key)/k.json", "c/\(key)/k.amdgcn"],
                ["triton c/\(key) k.json"]
            ),
            (["k.json", "__grp__k.json"], []),
        ])
    func triton(_ paths: [String], _ expected: [String]) throws { #expect(try Self.lines(paths) == expected) }

    @Test("groups are found wherever they are")
    func groups() throws {
        let tree = try makeTree([
            "__grp__a.json", "x/__grp__b.json", "\(Self.key)/__grp__k.json", "\(Self.key)/__grp__.json",
            "y/__grp__d.json/",
            "z/__grp__c.json -> x",
        ])
        let found = KernelSurvey(tree).groupFiles.map { tree.path(of: $0).description }
        #expect(found == ["__grp__a.json", "\(Self.key)/__grp__k.json", "x/__grp__b.json"])
    }

    static let rank = "torch_compile_cache/d4ec7c2a7d/rank_0_0"

    @Test(
        "vLLM's directories are opaque unless they hold Triton's entries only",
        arguments: [
            (
                [
                    "\(rank)/computation_graph.py", "\(rank)/transformed_code.py", "\(rank)/vllm_compile_cache.py",
                    "\(rank)/inductor_cache/47/x.py", "\(rank)/triton_cache/\(key)/k.json",
                    "\(rank)/triton_cache/\(key)/k.cubin",
                    "\(rank)/inductor_cache/triton/0/\(other)/k.json",
                    "\(rank)/inductor_cache/triton/0/\(other)/k.cubin",
                ],
                [
                    "vllm torch_compile_cache/d4ec7c2a7d parts [1, 2]", "triton \(rank)/triton_cache/\(key) k.json",
                    "triton \(rank)/inductor_cache/triton/0/\(other) k.json",
                ]
            ),
            (
                [
                    "\(rank)/backbone/artifact_compile_range_1_2048_subgraph_0", "\(rank)/triton_cache/\(key)/k.json",
                    "\(rank)/triton_cache/\(key)/k.cubin",
                ],
                ["vllm torch_compile_cache/d4ec7c2a7d opaque parts [1]", "triton \(rank)/triton_cache/\(key) k.json"]
            ),
            // The second rank's kernels are not known.
            (
                [
                    "\(rank)/triton_cache/\(key)/k.json", "\(rank)/triton_cache/\(key)/k.cubin",
                    "torch_compile_cache/d4ec7c2a7d/rank_1_0/inductor_cache/x",
                ],
                ["vllm torch_compile_cache/d4ec7c2a7d opaque parts [1]", "triton \(rank)/triton_cache/\(key) k.json"]
            ),
            (
                ["\(rank)/triton_cache/", "torch_compile_cache/d4ec7c2a7d/model"],
                ["vllm torch_compile_cache/d4ec7c2a7d opaque"]
            ),
            (["\(rank)/triton_cache/"], ["vllm torch_compile_cache/d4ec7c2a7d"]),
            (
                ["torch_compile_cache/torch_aot_compile/\(hex64)/rank_0_0/model"],
                ["vllm torch_compile_cache/torch_aot_compile/\(hex64) opaque"]
            ),
            (
                [
                    "torch_compile_cache/torch_aot_compile/\(hex64)/rank_0_0/model",
                    "torch_compile_cache/torch_aot_compile/\(hex64)/inductor_cache/triton/0/\(key)/k.json",
                    "torch_compile_cache/torch_aot_compile/\(hex64)/inductor_cache/triton/0/\(key)/k.cubin",
                ],
                [
                    "vllm torch_compile_cache/torch_aot_compile/\(hex64) opaque parts [1]",
                    "triton torch_compile_cache/torch_aot_compile/\(hex64)/inductor_cache/triton/0/\(key) k.json",
                ]
            ),
            (["elsewhere/d4ec7c2a7d/rank_0_0/x"], []), (["torch_compile_cache/D4EC7C2A7D/x"], []),
            (["torch_compile_cache/d4ec7c2a7/x"], []),
        ])
    func vllm(_ paths: [String], _ expected: [String]) throws {
        #expect(try Self.lines(paths).sorted() == expected.sorted())
    }

    @Test(
        "other caches are told by their place",
        arguments: [
            ([".cache/flashinfer/0.2.14/90a/cached_ops/x/x.so"], ["flashinfer .cache/flashinfer/0.2.14/90a"]),
            (["flashinfer/0.6.0rc1/80_90a/x"], ["flashinfer flashinfer/0.6.0rc1/80_90a"]),
            (["flashinfer/cubins/80/x"], []), (["0.2.14/90a/x"], []), (["flashinfer/0.2.14/cached_ops/x"], []),
            (["flashinfer/90a/x"], []), (["flashinfer/0.2.14/90a"], []),
            (
                ["cache/kernel.smxx_gemm.0f3a/kernel.cubin", "cache/kernel.smxx_gemm.0f3a/kernel.cu"],
                ["deepgemm cache/kernel.smxx_gemm.0f3a kernel.cubin"]
            ),
            (["cache/kernel.smxx_gemm.0f3a/kernel.cu"], []), (["cache/kernels/kernel.cubin"], []),
            (
                ["models--nim--meta--llama/snapshots/0.11.1+ba-l40sx1-bf16-throughput.1/rank0.engine -> ../../blobs/1"],
                ["nim models--nim--meta--llama/snapshots/0.11.1+ba-l40sx1-bf16-throughput.1"]
            ),
            (["models--nim--meta--llama/snapshots/hf-8c22764-b/model.safetensors"], []),
            (["models--meta--llama/snapshots/l40sx1/rank0.engine"], []),
        ])
    func others(_ paths: [String], _ expected: [String]) throws { #expect(try Self.lines(paths) == expected) }

    @Test("the innermost entry holds what is in it")
    func innermost() throws {
        let tree = try makeTree([
            "\(Self.rank)/triton_cache/\(Self.key)/k.json", "\(Self.rank)/triton_cache/\(Self.key)/k.cubin",
            "\(Self.rank)/vllm_compile_cache.py", "x/y",
        ])
        let survey = KernelSurvey(tree)
        let holder = { (path: String) -> KernelEntry.Kind? in
            let index = try #require(tree.entry(at: TreePath(path)))
            return survey.entry(holding: index).map { survey.entries[$0].kind }
        }
        #expect(try holder("\(Self.rank)/triton_cache/\(Self.key)/k.json") == .triton)
        #expect(try holder("\(Self.rank)/triton_cache/\(Self.key)") == .triton)
        #expect(try holder("\(Self.rank)/triton_cache") == .vllm)
        #expect(try holder("torch_compile_cache/d4ec7c2a7d") == .vllm)
        #expect(try holder("torch_compile_cache") == nil)
        #expect(try holder("x/y") == nil)
    }

    @Test("only the first bytes of a binary are asked for")
    func bytes() throws {
        let survey = KernelSurvey(
            try makeTree(["kernel.a.00/kernel.cubin", "\(Self.key)/k.json", "\(Self.key)/k.ttir"]))
        #expect(Set(survey.entries.map(\.metadataBytes)) == [64, nil])
    }

    @Test(
        "files of hidden engines of NIM are those to which no other snapshot leads",
        arguments: [
            (["own/rank0.engine -> ../../blobs/1", "own/sub/a -> ../../../blobs/2"], ["blobs/1", "blobs/2"]),
            (["own/rank0.engine -> ../../blobs/1", "other/rank0.engine -> ../../blobs/1"], []),
            (
                ["own/rank0.engine -> ./../..//blobs/1", "own/t -> ../../blobs/2", "hf-1/t -> ../../blobs/2"],
                ["blobs/1"]
            ),
            (["own/rank0.engine -> /blobs/1", "own/a -> ../../../../../x", "own/b -> ../../blobs/9"], []),
            (["own/rank0.engine -> ../../blobs", "own/a -> ../../blobs/1/2", "own/b -> ../other"], []),
            (["other/rank0.engine -> ../../blobs/1"], []),
        ])
    func blobs(_ links: [String], _ expected: [String]) throws {
        let model = "models--nim--meta--llama"
        let paths = links.map { "\(model)/snapshots/\($0)" } + (1...3).map { "\(model)/blobs/\($0)" } + ["blobs/1"]
        let tree = try makeTree(paths)
        var hidden = Bitmap(count: tree.count)
        if let own = try tree.entry(at: TreePath("\(model)/snapshots/own")) { hidden.insert(Int(own)) }
        let files = KernelSurvey(tree).filesNamedOnly(byHidden: hidden).map { tree.path(of: $0).description }
        #expect(files.sorted() == expected.map { "\(model)/\($0)" })
    }
}
