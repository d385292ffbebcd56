package import GPUCompat

/// What the labels of a cache image say of its kernels, before any layer is read. Model Cache Vault (MCV) writes them.
package struct CacheImageSummary: Hashable, Sendable {
    package enum Kind: String, Sendable, Codable { case triton, vllm, habana }

    package let kind: Kind
    package let entryCount: Int?
    /// Sum of the sizes of its files.
    package let bytes: UInt64?
    /// Each once, in the order of the label.
    package let targets: [KernelTarget]
    /// Whether `targets` are those of the kernels, all of them. Labels of vLLM's binary formats tell the GPU of the
    /// machine that packed the image; some name targets that nobody here knows.
    package let isReliable: Bool

    /// nil for an image without such labels.
    package init?(labels: [String: String]) {
        guard let kind = Self.kind(of: labels) else { return nil }
        self.kind = kind
        let prefix = "cache.\(kind.rawValue).image/"
        entryCount = labels[prefix + "entry-count"].flatMap { Int($0) }.flatMap { $0 < 0 ? nil : $0 }
        bytes = labels[prefix + "cache-size-bytes"].flatMap { UInt64($0) }

        let listed = Self.targets(of: labels[prefix + "summary"] ?? "")
        var targets: [KernelTarget] = []
        for case let target? in listed where !targets.contains(target) { targets.append(target) }
        self.targets = targets
        isReliable =
            !listed.isEmpty && !listed.contains(nil) && (kind != .vllm || labels[prefix + "format"] == "triton")
    }

    /// As other readers of these images decide it.
    private static func kind(of labels: [String: String]) -> Kind? {
        switch labels["io.kserve.km/cache-type"] {
        case "habana-recipe": .habana
        case "torch-compile": .vllm
        default:
            [Kind.habana, .vllm, .triton].first { kind in
                ["summary", "entry-count"].contains { labels["cache.\(kind.rawValue).image/\($0)"] != nil }
            }
        }
    }

    /// nil for each that is not known. Empty where there is no list.
    private static func targets(of summary: String) -> [KernelTarget?] {
        guard summary.utf8.count <= KernelDescription.metadataBytesMax,
            let elements = (try? JSONValue(Array(summary.utf8)))?["targets"]?.elements
        else { return [] }
        return elements.map { element in
            try? KernelTarget(triton: element["backend"], arch: element["arch"], warpSize: element["warp_size"])
        }
    }
}
