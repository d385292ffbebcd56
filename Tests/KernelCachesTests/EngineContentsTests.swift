import Testing

@testable import KernelCaches

@Suite("Files of engines below their directories")
struct EngineContentsTests {
    private static let code = "c47v2of4lrhyox6un5t4z2l3xrtqxchprnn3ers2j65b5w64ghqu"
    private static let graph = "a5zyzqiu3r4t5mjl4tueatj4nvrdbxc6luji3nhwdzr6qyody6j3"
    private static let digest = "fd2fb184b9eecb8034acc9c0eb8634f9feede32fc521f4a69cfb90f2fabf44c7"
    private static let key = "C4TUJQOHDPEHSIQ6JRBBUMZXRCX75SVBJIAXB6ARAQ47KRIFZR3Q"

    private func holds(_ kind: KernelEntry.Kind, _ path: String, besides others: [String] = []) -> Bool {
        let names = { (path: String) in path.split(separator: "/").map(String.init) }
        let isFolder = path.hasSuffix("/")
        let contents = EngineContents(kind, files: (others + (isFolder ? [] : [path])).map(names))
        return isFolder ? contents.holds(emptyFolder: names(path)) : contents.holds(file: names(path))
    }

    @Test(
        "what each version of vLLM writes is its own",
        arguments: [
            // 0.8 to 0.10
            "rank_0_0/computation_graph.py", "rank_0_0/transformed_code.py", "rank_0_0/vllm_compile_cache.py",
            "rank_0_0/__pycache__/computation_graph.cpython-312.pyc", "rank_0_0/inductor_cache/47/\(code).py",
            "rank_0_0/inductor_cache/47/\(digest).best_config", "rank_0_0/inductor_cache/aotautograd/\(graph)/entry",
            "rank_0_0/inductor_cache/fxgraph/5z/f\(graph.dropFirst())/\(graph.dropFirst())",
            "rank_0_0/inductor_cache/locks/\(code).lock", "rank_0_0/inductor_cache/cache/\(digest)",
            "rank_0_0/inductor_cache/47/.12.140234.tmp", "rank_0_0/inductor_cache/aotautograd/\(graph)/.12.140234.tmp",
            "rank_0_0/inductor_cache/triton/0/\(key)/__triton_launcher.so",
            "rank_0_0/triton_cache/\(key)/k.autotune.json",
            "rank_0_0/triton_cache/\(key)/cuda_utils.cpython-312-x86_64-linux-gnu.so", "rank_0_0/triton_cache/\(key)/",
            "rank_0_0/triton_cache/\(key)/tmp.pid_1_a/k.ttir", "rank_0_0/triton_cache/\(key)/tmp.pid_1_a/",
            "rank_0_0/triton_cache/\(key)/k.cubin.tmp.pid_1_2", "rank_0_0/", "rank_0_0/triton_cache/",
            "rank_0_0/inductor_cache/fxgraph/5z/", "rank_12_3/inductor_cache/triton/0/",
            // 0.11 and later
            "rank_0_0/backbone/cache_key_factors.json", "rank_0_0/eagle_head/computation_graph.py",
            "rank_0_0/backbone/",
            "rank_0_0/Qwen2_5_VisionBlock/vllm_compile_cache.py",
            "rank_0_0/backbone/artifact_compile_range_1_2048_subgraph_16",
            "rank_0_0/backbone/artifact_shape_None_subgraph_0",
            "rank_0_0/backbone/artifact_compile_range_1_16384_subgraph_59/6i/\(code).py",
            // Ahead of time
            "rank_0_0/model", "rank_0_0/model.17.tmp", "inductor_cache/47/\(code).py",
            "inductor_cache/triton/0/\(key)/",
        ])
    func vllm(path: String) { #expect(holds(.vllm, path)) }

    @Test(
        "what is at another place, or named otherwise, is not",
        arguments: [
            "notes.txt", "model", "rank_0_0/notes.txt", "rank_0_0/backbone/thesis.tex", "rank_0_0/papers/",
            "rank_0/model", "rank_of_all/model", "rank_0_0/model/", "rank_0_0/model/weights", "papers/",
            "rank_0_0/backbone/model", "rank_0_0/backbone/deeper/computation_graph.py",
            "rank_0_0/inductor_cache/notes.py",
            "rank_0_0/inductor_cache/47/notes.py", "rank_0_0/inductor_cache/47/\(code)",
            "rank_0_0/inductor_cache/my/deep/",
            "rank_0_0/inductor_cache/notes/\(code).py", "rank_0_0/inductor_cache/fxgraph/5z/mine",
            "rank_0_0/inductor_cache/aotautograd/\(graph)/mine", "rank_0_0/inductor_cache/locks/my.lock",
            "rank_0_0/inductor_cache/triton/mine/\(key)/k.ttir", "rank_0_0/inductor_cache/.vimrc.1.tmp",
            "rank_0_0/triton_cache/notes.txt", "rank_0_0/triton_cache/\(key)/notes.txt",
            "rank_0_0/triton_cache/\(key)/k.json",
            "rank_0_0/triton_cache/mine/k.ttir", "rank_0_0/triton_cache/\(key)/mine/", "rank_0_0/triton_cache/mine/",
            "rank_0_0/triton_cache/\(key)/tmp.pid_1_a/mine", "rank_0_0/triton_cache/\(key)/tmp.pid_me/k.ttir",
            "rank_0_0/triton_cache/\(key)/tmp.pid_1_a/tmp.pid_1_b/k.ttir",
            "rank_0_0/backbone/artifact_of_mine_subgraph_1",
            "rank_0_0/backbone/artifact_compile_range_1_b_subgraph_1", "rank_0_0/__pycache__/mine.cpython-312.pyc",
        ])
    func notVLLM(path: String) { #expect(!holds(.vllm, path)) }

    @Test("of FlashInfer's folders is its own what belongs to a module that was built")
    func flashInfer() {
        let built = ["cached_ops/sampling/build.ninja", "cached_ops/x/x.so", "cached_ops/m_sm90a_cute_dsl/meta.json"]
        for path in built + [
            "cached_ops/sampling/sampling.so", "cached_ops/sampling/.ninja_log", "cached_ops/sampling/.ninja_deps",
            "cached_ops/sampling/csrc_sampling.cuda.o", "cached_ops/sampling/csrc_sampling.cuda.o.d",
            "cached_ops/m_sm90a_cute_dsl/kernel.o", "cached_ops/tmp/sampling.lock",
            "cached_ops/tmp/flashinfer_jit.ninja",
            "cached_ops/sampling/", "cached_ops/tmp/", "cached_ops/", "generated/", "generated/sampling/",
            "flashinfer_jit.log",
            "generated/sampling/config.inc", "generated/sampling.cu", "generated/gen_gemm_sm90/gemm.cu",
            "generated/cutlass_instantiations/90/gemm_grouped/90/a.generated.cu", "cached_ops/x/generated/k/k.cu",
        ] { #expect(holds(.flashinfer, path, besides: built), "\(path)") }
        for path in [
            "mine.tex", "cached_ops/mine.tex", "cached_ops/mine/mine.o", "cached_ops/mine/",
            "cached_ops/sampling/mine.tex",
            "cached_ops/sampling/deep/a.o", "cached_ops/sampling/meta.json", "generated/mine.cu",
            "generated/mine/mine.cu",
            "generated/sampling/mine.tex", "generated/mine/", "cached_ops/tmp/mine", "mine/", "flashinfer_jit.log/",
            "cached_ops/sampling/.o", "cached_ops/tmp/deep/a.lock", "cached_ops/meta.json",
        ] { #expect(!holds(.flashinfer, path, besides: built), "\(path)") }
    }

    @Test("DeepGEMM's directories are flat")
    func deepGEMM() {
        for name in ["kernel.cu", "kernel.cubin", "kernel.ptx", "kernel.sass"] {
            #expect(holds(.deepgemm, name) && !holds(.deepgemm, "a/\(name)") && !holds(.deepgemm, "\(name)/"))
        }
        #expect(!holds(.deepgemm, "kernel.py"))
    }
}
