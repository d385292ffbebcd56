package import GPUCompat
internal import MCFSCore

/// What the labels of a cache image say of its kernels, before any layer is read. Model Cache Vault (MCV) writes them.
package struct CacheImageSummary: Hashable, Sendable {
    package enum Kind: String, Sendable { case triton, vllm, habana }

    package let kind: Kind
    package let entryCount: Int?
    /// Sum of the sizes of its files.
    package let bytes: UInt64?
    /// How vLLM stored it, each way once: `binary,triton`. nil for other caches.
    package let format: String?
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
        bytes = labels[prefix + "cache-size-bytes"].flatMap { OutsideNumber.byteCount($0) }
        format = kind == .vllm ? labels[prefix + "format"] : nil

        let listed = Self.targets(of: labels[prefix + "summary"] ?? "")
        var targets: [KernelTarget] = []
        for case let target? in listed where !targets.contains(target) { targets.append(target) }
        self.targets = targets
        isReliable = !listed.contains(nil) && Self.isReliable(kind, format, targets)
    }

    /// - Parameter targets: of Triton's kernels, all of them; empty where that is not known.
    init(_ kind: Kind, entryCount: Int, bytes: UInt64, format: String?, targets: [KernelTarget]) {
        self.kind = kind
        self.entryCount = entryCount
        self.bytes = bytes
        self.format = format
        self.targets = targets
        isReliable = Self.isReliable(kind, format, targets)
    }

    private static func isReliable(_ kind: Kind, _ format: String?, _ targets: [KernelTarget]) -> Bool {
        !targets.isEmpty && (kind != .vllm || format == "triton")
    }

    /// What `init(labels:)` reads back. The list of targets is there even if none is known: MCV tells by its label what an
    /// image is, and takes no kernel for one that runs here because of it.
    package var labels: [String: String] {
        let prefix = "cache.\(kind.rawValue).image/"
        let summary = JSONValue(["targets": .array(targets.map(\.json))])
        var labels = [prefix + "summary": String(decoding: summary.bytes, as: UTF8.self)]
        labels[prefix + "entry-count"] = entryCount.map(String.init)
        labels[prefix + "cache-size-bytes"] = bytes.map { String($0) }
        labels[prefix + "format"] = format
        return labels
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

extension KernelTarget {
    /// As `init(triton:arch:warpSize:)` reads it.
    fileprivate var json: JSONValue {
        JSONValue([
            "backend": .string(architecture.backend.rawValue), "arch": .string(architecture.tritonText),
            "warp_size": warpSize.map(JSONValue.integer),
        ])
    }
}

extension Architecture {
    /// `90`, `gfx942`.
    var tritonText: String {
        switch self {
        case .cuda(let architecture): "\(architecture.number)"
        case .gfx(let architecture): architecture.description
        }
    }
}
