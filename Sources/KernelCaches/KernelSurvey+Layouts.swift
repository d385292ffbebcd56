internal import Catalog

/// Caches whose directories are told by their place. They are recognised below their usual roots only: a directory that
/// is named `80` by chance is no kernel.
extension Tree {
    /// The entry that a directory is, if it is one of another cache than Triton's.
    func otherEntry(_ directory: Index) -> KernelEntry? {
        guard directory != Self.root else { return nil }
        let parent = parent(of: directory)
        let name = withName(of: directory) { Array($0) }
        return vllmEntry(directory, name, parent) ?? flashInferEntry(directory, name, parent)
            ?? deepGEMMEntry(directory, name) ?? nimEntry(directory, name, parent)
    }

    /// `torch_compile_cache/<10 hex>` and `torch_compile_cache/torch_aot_compile/<64 hex>`.
    private func vllmEntry(_ directory: Index, _ name: [UInt8], _ parent: Index) -> KernelEntry? {
        guard name.allSatisfy(isHexDigit) else { return nil }
        if name.count == 10, has(parent, name: "torch_compile_cache") {
            return KernelEntry(.vllm, directory, isOpaque: !holdsOnlyTriton(vllm: directory))
        }
        guard name.count == 64, has(parent, name: "torch_aot_compile") else { return nil }
        return KernelEntry(.vllm, directory, isOpaque: true)
    }

    /// The layout of vLLM 0.8 to 0.10: each `rank_R_D` has its Triton cache, and no artefacts of its own. Anything that is
    /// not known to belong there makes a directory opaque.
    private func holdsOnlyTriton(vllm directory: Index) -> Bool {
        children(of: directory).allSatisfy { rank in
            isDirectory(rank) && withName(of: rank) { $0.starts(with: "rank_".utf8) }
                && lookup("triton_cache", in: rank) != nil
                && children(of: rank).allSatisfy { child in
                    withName(of: child) { name in knownOfRank.contains { name.elementsEqual($0.utf8) } }
                }
        }
    }

    /// `flashinfer/<version>/<archs>`.
    private func flashInferEntry(_ directory: Index, _ name: [UInt8], _ version: Index) -> KernelEntry? {
        guard version != Self.root, has(self.parent(of: version), name: "flashinfer"),
            withName(of: version, { $0.first.map(isDigit) ?? false && $0.contains(UInt8(ascii: ".")) }),
            name.first.map(isDigit) ?? false
        else { return nil }
        return KernelEntry(.flashinfer, directory)
    }

    /// `kernel.<name>.<hex>/kernel.cubin`.
    private func deepGEMMEntry(_ directory: Index, _ name: [UInt8]) -> KernelEntry? {
        guard name.starts(with: "kernel.".utf8), let binary = lookup("kernel.cubin", in: directory),
            attributes(of: binary).kind == .file
        else { return nil }
        return KernelEntry(
            .deepgemm, directory, metadata: [binary], metadataBytes: UInt64(ELFHeader.byteCount))
    }

    /// `models--nim--*/snapshots/<version>` with an engine; snapshots without one hold weights.
    private func nimEntry(_ directory: Index, _ name: [UInt8], _ snapshots: Index) -> KernelEntry? {
        guard has(snapshots, name: "snapshots"),
            withName(of: self.parent(of: snapshots), { $0.starts(with: "models--nim--".utf8) }),
            children(of: directory).contains(where: { child in
                withName(of: child) { $0.starts(with: "rank".utf8) && $0.suffix(7).elementsEqual(".engine".utf8) }
            })
        else { return nil }
        return KernelEntry(.nim, directory)
    }

    func isDirectory(_ entry: Index) -> Bool { attributes(of: entry).kind == .directory }

    private func has(_ entry: Index, name: String) -> Bool { withName(of: entry) { $0.elementsEqual(name.utf8) } }

    private func lookup(_ name: String, in directory: Index) -> Index? {
        var name = name
        return name.withUTF8 { lookup(UnsafeRawBufferPointer($0), in: directory) }
    }
}

private let knownOfRank = [
    "__pycache__", "cache_key_factors.json", "computation_graph.py", "inductor_cache", "transformed_code.py",
    "triton_cache", "vllm_compile_cache.py",
]

func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }

func isHexDigit(_ byte: UInt8) -> Bool {
    isDigit(byte) || byte >= UInt8(ascii: "a") && byte <= UInt8(ascii: "f")
}
