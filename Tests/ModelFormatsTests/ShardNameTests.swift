import Testing

@testable import ModelFormats

@Suite("Names of shards")
struct ShardNameTests {
    @Test(
        "the next shard's name has the same form",
        arguments: [
            ("model-00001-of-00030.safetensors", "model-00002-of-00030.safetensors"),
            ("model-00009-of-00030.safetensors", "model-00010-of-00030.safetensors"),
            ("Qwen3-8B-Q4_K_M-00001-of-00002.gguf", "Qwen3-8B-Q4_K_M-00002-of-00002.gguf"),
            ("pytorch_model-1-of-2.bin", "pytorch_model-2-of-2.bin"),
            ("a-of-b-01-of-10.x", "a-of-b-02-of-10.x"),
        ])
    func next(name: String, next: String) {
        #expect(ShardName(name.utf8)?.next.map { String(decoding: $0, as: UTF8.self) } == next)
    }

    @Test("behind the last there is none")
    func last() {
        #expect(ShardName("model-00030-of-00030.safetensors".utf8) != nil)
        #expect(ShardName("model-00030-of-00030.safetensors".utf8)?.next == nil)
    }

    @Test(
        "other names are no shards",
        arguments: [
            "model.safetensors", "", ".", "model-of-.safetensors", "model-00001-of-00030", "model-0001-of-00030.gguf",
            "model-00000-of-00030.gguf", "model-00031-of-00030.gguf", "00001-of-00030.gguf",
            "model-00001-off-00030.gguf",
            "model-00001-of-00000.gguf", "m-99999999999999999999-of-99999999999999999999.gguf", "-of-1.gguf",
        ])
    func others(name: String) { #expect(ShardName(name.utf8) == nil) }
}
