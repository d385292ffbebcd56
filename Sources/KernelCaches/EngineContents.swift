/// What below the directory of an entry that is not Triton's is surely its engine's, by its place and name alone.
///
/// Each depth has names of its own, as engines give them; a name that is right at another depth is nobody's. Of entries
/// of Triton's that lie in it `TritonContents` tells.
package struct EngineContents: Sendable {
    private let kind: KernelEntry.Kind
    /// Of FlashInfer's: folders in `cached_ops` that hold what it built there.
    private let modules: Set<String>

    /// - Parameter files: paths of all files, from the entry's directory, as names.
    package init(_ kind: KernelEntry.Kind, files: [[String]]) {
        self.kind = kind
        var modules: Set<String> = []
        for path in files where kind == .flashinfer && path.count == 3 && path[0] == "cached_ops" {
            let isMark = ["build.ninja", "\(path[1]).so"].contains(path[2])
            if isMark || path[2] == "meta.json" && path[1].hasSuffix("_cute_dsl") { modules.insert(path[1]) }
        }
        self.modules = modules
    }

    /// Whether what is certain may go where other things stay. Not so for DeepGEMM, which takes a directory without all
    /// of its files for damaged.
    package var isDivisible: Bool { kind == .vllm || kind == .flashinfer }

    /// Whether a file is the engine's.
    ///
    /// - Parameter path: from the entry's directory, as names.
    package func holds(file path: [String]) -> Bool { holds(path[...], isFolder: false) }

    /// Whether a folder with nothing in it is the engine's. Any other is, where all that is in it is.
    package func holds(emptyFolder path: [String]) -> Bool { holds(path[...], isFolder: true) }

    private func holds(_ path: ArraySlice<String>, isFolder: Bool) -> Bool {
        switch kind {
        case .vllm: holds(vllm: path, isFolder)
        case .flashinfer: holds(flashInfer: path, isFolder)
        case .deepgemm:
            !isFolder && path.count == 1
                && ["kernel.cu", "kernel.cubin", "kernel.ptx", "kernel.sass"].contains(path.first)
        case .triton, .nim: false
        }
    }

    // MARK: - vLLM

    private func holds(vllm path: ArraySlice<String>, _ isFolder: Bool) -> Bool {
        guard let first = path.first else { return false }
        if let inner = Self.engineCache(first) { return inner(path.dropFirst(), isFolder) }
        // rank_R_D
        let numbers = first.split(separator: "_", omittingEmptySubsequences: false)
        guard numbers.count == 3, numbers[0] == "rank", isNumber(numbers[1]), isNumber(numbers[2]) else { return false }
        return Self.holds(rank: path.dropFirst(), isFolder)
    }

    private static func holds(rank path: ArraySlice<String>, _ isFolder: Bool) -> Bool {
        guard let first = path.first else { return isFolder }
        if let inner = engineCache(first) { return inner(path.dropFirst(), isFolder) }
        if path.count == 1 {
            return isFolder ? ["__pycache__", "backbone", "eagle_head"].contains(first) : isRankFile(first)
        }
        // The folder of a part of the model has any name, and files of given names.
        let rest = path.dropFirst()
        guard let name = rest.first else { return false }
        if first == "__pycache__" {
            return rest.count == 1 && !isFolder && name.hasSuffix(".pyc")
                && partFiles.contains(name.prefix { $0 != "." } + ".py")
        }
        if rest.count == 1, !isFolder, partFiles.contains(name) { return true }
        // A file in vLLM's binary format, a folder in its unpacked one.
        return isArtifact(name) && (rest.count == 1 ? true : holds(inductor: rest.dropFirst(), isFolder))
    }

    private static let partFiles = [
        "cache_key_factors.json", "computation_graph.py", "transformed_code.py", "vllm_compile_cache.py",
    ]

    private static func isRankFile(_ name: String) -> Bool {
        if partFiles.contains(name) || name == "model" { return true }
        // model.<pid>.tmp: a write that was cut off.
        let words = name.split(separator: ".", omittingEmptySubsequences: false)
        return words.count == 3 && words[0] == "model" && isNumber(words[1]) && words[2] == "tmp"
    }

    /// `artifact_compile_range_S_E_subgraph_I`, `artifact_shape_S_subgraph_I`.
    private static func isArtifact(_ name: String) -> Bool {
        let words = name.split(separator: "_", omittingEmptySubsequences: false)
        guard words.first == "artifact", words.count >= 5, words[words.count - 2] == "subgraph",
            isNumber(words[words.count - 1])
        else { return false }
        let range = words[1..<(words.count - 2)]
        switch range.count {
        case 4: return range.starts(with: ["compile", "range"]) && range.suffix(2).allSatisfy(isNumber)
        case 2: return range.first == "shape" && (range.last == "None" || isNumber(range.last ?? ""))
        default: return false
        }
    }

    // MARK: - Inductor and Triton, in vLLM's directories

    private static func engineCache(_ name: String) -> ((ArraySlice<String>, Bool) -> Bool)? {
        switch name {
        case "inductor_cache": { holds(inductor: $0, $1) }
        case "triton_cache": { holds(triton: $0, $1) }
        default: nil
        }
    }

    /// - Parameter path: from Inductor's folder.
    private static func holds(inductor path: ArraySlice<String>, _ isFolder: Bool) -> Bool {
        guard let first = path.first else { return isFolder }
        let names = Array(path.dropFirst())
        if isFolder {
            switch (first, names.count) {
            case ("fxgraph", 0...2), ("aotautograd", 0...1):
                return names.allSatisfy { isShard($0) || isHash($0) }
            case ("locks", 0), ("cache", 0), ("triton", 0): return true
            case ("triton", _): return isNumber(names[0]) && holds(triton: path.dropFirst(2), true)
            default: return names.isEmpty && isShard(first)
            }
        }
        guard let name = names.last else { return isInductorTemporary(first) }
        if isInductorTemporary(name), holds(inductor: path.dropLast(), true) { return true }
        switch (first, names.count) {
        case ("fxgraph", 3): return isShard(names[0]) && isHash(names[1]) && isHash(name)
        case ("aotautograd", 1): return isHash(name)
        case ("aotautograd", 2): return isHash(names[0]) && (name == "entry" || isHash(name))
        case ("locks", 1): return name.hasSuffix(".lock") && isHash(name.dropLast(5))
        case ("cache", 1): return isDigest(name)
        case ("triton", 2...): return isNumber(names[0]) && holds(triton: path.dropFirst(2), false)
        case (_, 1) where isShard(first):
            // KEY.py, KEY.best_config, KEY.main.so …
            guard let dot = name.firstIndex(of: ".") else { return false }
            return isHash(name[..<dot]) || isDigest(name[..<dot])
        default: return false
        }
    }

    /// Two characters of a key.
    private static func isShard(_ name: String) -> Bool { name.utf8.count == 2 && name.utf8.allSatisfy(isKeyByte) }

    /// 51 characters of base32 in lower case, most with a letter for the kind before them.
    private static func isHash(_ name: some StringProtocol) -> Bool {
        51...52 ~= name.utf8.count && name.utf8.allSatisfy(isKeyByte)
    }

    /// A SHA-256 in hex digits.
    private static func isDigest(_ name: some StringProtocol) -> Bool {
        name.utf8.count == 64 && name.utf8.allSatisfy(isHexDigit)
    }

    private static func isKeyByte(_ byte: UInt8) -> Bool {
        UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "2")...UInt8(ascii: "7") ~= byte
    }

    /// `.<pid>.<tid>.tmp`
    private static func isInductorTemporary(_ name: String) -> Bool {
        let words = name.split(separator: ".", omittingEmptySubsequences: false)
        return words.count == 4 && words[0].isEmpty && isNumber(words[1]) && isNumber(words[2]) && words[3] == "tmp"
    }

    /// What is in a cache of Triton's besides entries: launchers, results of autotuning, entries that were never finished.
    ///
    /// - Parameter path: from the cache.
    private static func holds(triton path: ArraySlice<String>, _ isFolder: Bool) -> Bool {
        guard let key = path.first else { return isFolder }
        guard TritonFile.isKey(key.utf8) else { return false }
        var rest = path.dropFirst()
        if rest.count == (isFolder ? 1 : 2), let folder = rest.first {
            guard TritonFile.isTemporaryFolder(folder.utf8) else { return false }
            rest.removeFirst()
        }
        if isFolder { return rest.isEmpty }
        guard rest.count == 1, let name = rest.first else { return false }
        let file = TritonFile.fileName(ofWriters: name.utf8).map { String($0) ?? "" } ?? name
        return TritonFile.isLauncher(file.utf8) || TritonFile.kernelName(of: file.utf8) != nil
            || file.hasSuffix(".autotune.json") && file != ".autotune.json"
    }

    // MARK: - FlashInfer

    private func holds(flashInfer path: ArraySlice<String>, _ isFolder: Bool) -> Bool {
        let names = Array(path)
        switch (names[0], names.count) {
        case ("flashinfer_jit.log", 1): return !isFolder
        case ("cached_ops", 1), ("generated", 1): return isFolder
        case ("cached_ops", _) where names[1] == "tmp":
            return names.count == 2
                ? isFolder
                : names.count == 3 && !isFolder
                    && (names[2] == "flashinfer_jit.ninja" || Self.ends(names[2], [".lock"]))
        case ("cached_ops", _):
            guard modules.contains(names[1]) else { return false }
            if names.count == 2 || names[2] == "generated" {
                return isFolder || names.count > 3 && Self.isSource(names[names.count - 1])
            }
            return names.count == 3 && !isFolder && Self.isBuilt(names[2], of: names[1])
        case ("generated", 2) where !isFolder: return Self.isSource(names[1]) && modules.contains(Self.stem(names[1]))
        case ("generated", _):
            // Named after the module, but for a few that several share.
            guard
                modules.contains(names[1]) || names[1].hasPrefix("gen_")
                    || ["cutlass_instantiations", "trtllm_export"].contains(names[1])
            else { return false }
            return isFolder || Self.isSource(names[names.count - 1])
        default: return false
        }
    }

    private static func isBuilt(_ name: String, of module: String) -> Bool {
        ["build.ninja", ".ninja_log", ".ninja_deps", "\(module).so", "lock"].contains(name)
            || module.hasSuffix("_cute_dsl") && name == "meta.json" || ends(name, [".o", ".o.d", ".cubin", ".lock"])
    }

    private static func isSource(_ name: String) -> Bool {
        ends(name, [".cu", ".cuh", ".inc", ".h", ".hpp", ".cpp", ".cc"])
    }

    private static func ends(_ name: String, _ endings: [String]) -> Bool {
        endings.contains { name.hasSuffix($0) && name != $0 }
    }

    private static func stem(_ name: String) -> String { String(name.prefix { $0 != "." }) }
}

private func isNumber(_ text: some StringProtocol) -> Bool { !text.isEmpty && text.utf8.allSatisfy(isDigit) }
