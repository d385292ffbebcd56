internal import Catalog
internal import GPUCompat
package import MCFSCore

/// What an image of a cache is to say of it, in the format of Model Cache Vault (MCV): labels, and a manifest beside the
/// cache. All of it is what the metadata of the kernels says; where that is silent, so is the image.
package struct CacheImageDescription: Sendable {
    package let summary: CacheImageSummary
    package let labels: [String: String]
    /// `manifest.json`.
    package let manifest: [UInt8]

    /// Where the cache lies in the image.
    package var cacheFolder: String { "io.\(summary.kind.rawValue).cache" }
    /// Where the manifest lies in it.
    package var manifestFolder: String { "io.\(summary.kind.rawValue).manifest" }

    /// nil for a folder that holds no kernels of vLLM or Triton.
    ///
    /// - Parameters:
    ///   - folder: of the cache, in the survey's tree. vLLM's is what `VLLM_CACHE_ROOT` names.
    ///   - descriptions: of each of the survey's entries; nil for what was not read.
    ///   - root: where the engine had the folder, absolute: whoever mounts the cache does well to mount it there.
    package init?(
        of folder: TreePath, in survey: KernelSurvey, _ descriptions: [KernelDescription?], root: String
    ) {
        let tree = survey.tree
        let positions = survey.entries.indices.filter { position in
            tree.path(of: survey.entries[position].directory).removing(prefix: folder) != nil
        }
        let caches = positions.compactMap { VLLMCache($0, of: folder, in: survey) }
        let kernels = positions.filter { survey.entries[$0].kind == .triton }
        guard !caches.isEmpty || !kernels.isEmpty else { return nil }
        let kind: CacheImageSummary.Kind = caches.isEmpty ? .triton : .vllm

        summary = CacheImageSummary(
            kind, entryCount: caches.isEmpty ? kernels.count : caches.count, bytes: tree.bytes(below: folder),
            format: caches.isEmpty
                ? nil
                : VLLMCache.Format.allCases.filter { format in caches.contains { $0.format == format } }
                    .map(\.rawValue).joined(separator: ","),
            targets: Self.targets(kind, positions.map { (survey.entries[$0], descriptions[$0]) }) ?? [])

        func rows(_ positions: [Int]) -> JSONValue { .array(positions.compactMap { descriptions[$0]?.manifestRow }) }
        var labels = summary.labels
        if caches.isEmpty {
            manifest = JSONValue(["triton": rows(kernels)]).bytes
        } else {
            manifest =
                JSONValue([
                    "vllm": .array(
                        caches.map { cache in
                            JSONValue([
                                "vllmHash": .string(cache.hash), "cacheFormat": .string(cache.format.rawValue),
                                "triton": rows(survey.entries[cache.position].parts),
                            ])
                        })
                ]).bytes
            labels["io.kserve.km/framework"] = "vllm"
            labels["io.kserve.km/cache-type"] = "torch-compile"
            labels["io.kserve.km/cache-hash"] = caches.map(\.hash).joined(separator: ",")
            labels["io.kserve.km/cache-mount-subpath"] =
                caches.allSatisfy { $0.format == .aotCompile } ? VLLMCache.aotFolder : VLLMCache.folder
            labels["io.kserve.km/cache-root-env"] = "VLLM_CACHE_ROOT=\(root)"
        }
        self.labels = labels
    }

    /// nil where an entry does not tell its own: a list that lacks one would be believed. vLLM's artefacts are taken to be
    /// for what the kernels beside them are for, because one compilation makes both; the format tells that they are there.
    private static func targets(
        _ kind: CacheImageSummary.Kind, _ entries: [(KernelEntry, KernelDescription?)]
    ) -> [KernelTarget]? {
        var targets: Set<KernelTarget> = []
        for (entry, description) in entries {
            switch entry.kind {
            case .vllm:
                if entry.parts.isEmpty || kind != .vllm { return nil }
            case .triton:
                guard !entry.isOpaque, let target = description?.target else { return nil }
                targets.insert(target)
            case .flashinfer, .deepgemm, .nim: return nil
            }
        }
        return targets.sorted { ("\($0.architecture)", $0.warpSize ?? 0) < ("\($1.architecture)", $1.warpSize ?? 0) }
    }
}

/// One of the directories that vLLM makes for what it compiles.
private struct VLLMCache {
    /// In the order in which the label has them.
    enum Format: String, CaseIterable {
        case aotCompile = "aot_compile"
        case binary, triton
    }

    static let folder = "torch_compile_cache"
    static let aotFolder = "torch_compile_cache/torch_aot_compile"

    let position: Int
    let hash: String
    let format: Format

    /// nil for other entries, and where vLLM would not look for it.
    init?(_ position: Int, of folder: TreePath, in survey: KernelSurvey) {
        let entry = survey.entries[position]
        guard entry.kind == .vllm, let path = survey.tree.path(of: entry.directory).removing(prefix: folder) else {
            return nil
        }
        self.position = position
        hash = String(decoding: path.name, as: UTF8.self)
        switch path.parent.description {
        case Self.folder: format = entry.isOpaque ? .binary : .triton
        case Self.aotFolder: format = .aotCompile
        default: return nil
        }
    }
}

extension Tree {
    /// Sum of the sizes of the files below a directory.
    fileprivate func bytes(below folder: TreePath) -> UInt64 {
        (0..<Index(count)).reduce(0) { bytes, entry in
            attributes(of: entry).kind == .file && path(of: entry).removing(prefix: folder) != nil
                ? bytes.addingClamped(attributes(of: entry).size) : bytes
        }
    }
}
