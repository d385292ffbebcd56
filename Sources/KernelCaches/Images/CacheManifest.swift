package import Catalog
internal import GPUCompat

/// The `manifest.json` that Model Cache Vault (MCV) packs beside a cache: what its Triton kernels need, without reading
/// the metadata of each.
package struct CacheManifest: Sendable {
    /// By the hash of the entry, in hex digits. Neither what the manifest lists with different targets, nor what is no hash.
    package let descriptions: [String: KernelDescription]

    /// A manifest that is larger is not read: some hundred bytes for each of 50,000 kernels.
    package static let bytesMax = 16 << 20

    /// nil for what is no such manifest. One of a cache without Triton kernels has no descriptions.
    package init?(_ bytes: [UInt8]) {
        guard bytes.count <= Self.bytesMax, let value = try? JSONValue(bytes) else { return nil }
        let triton: [JSONValue]
        if let kernels = value["triton"]?.elements {
            triton = kernels
        } else if let caches = value["vllm"]?.elements {
            triton = caches.flatMap { $0["triton"]?.elements ?? [] }
        } else if value["habana"]?.elements != nil {
            triton = []
        } else {
            return nil
        }
        var descriptions: [String: KernelDescription] = [:]
        var contradictory: Set<String> = []
        for kernel in triton {
            // Producers write the hash, and could write the name of the directory as well.
            guard let name = kernel["hash"]?.string, let hash = TritonFile.hash(ofKey: name.utf8) else { continue }
            let description = KernelDescription(manifest: kernel, hash: hash)
            if let other = descriptions.updateValue(description, forKey: hash), other.targets != description.targets {
                contradictory.insert(hash)
            }
        }
        self.descriptions = descriptions.filter { !contradictory.contains($0.key) }
    }

    /// What it says of an entry of Triton; nil where it says nothing that can be used.
    package func description(of entry: KernelEntry, in tree: Tree) -> KernelDescription? {
        guard entry.kind == .triton, !entry.isOpaque,
            let hash = tree.withName(of: entry.directory, { TritonFile.hash(ofKey: Array($0)) }),
            var description = descriptions[hash], description.problem == nil
        else { return nil }
        // The metadata file is named like the kernel.
        description.name = entry.metadata.first.map { file in
            tree.withName(of: file) { String(decoding: $0.dropLast(".json".utf8.count), as: UTF8.self) }
        }
        return description
    }
}

extension KernelDescription {
    /// What `CacheManifest` reads of it; nil for what no row can tell.
    var manifestRow: JSONValue? {
        guard let hash, let target, targets.count == 1, target.form == .tritonEntry else { return nil }
        return JSONValue([
            "hash": .string(hash), "num_stages": numStages.map(JSONValue.integer),
            "num_warps": numWarps.map(JSONValue.integer),
            "backend": .string(backend ?? target.architecture.backend.rawValue),
            "arch": .string(target.architecture.tritonText), "warp_size": target.warpSize.map(JSONValue.integer),
        ])
    }

    fileprivate init(manifest kernel: JSONValue, hash: String) {
        self.hash = hash
        backend = kernel["backend"]?.string.map { short($0) }
        numWarps = kernel["num_warps"]?.integer
        numStages = kernel["num_stages"]?.integer
        do throws(MetadataFlaw) {
            targets = [
                try KernelTarget(
                    triton: kernel["backend"], arch: kernel["arch"], warpSize: kernel["warp_size"])
            ]
        } catch {
            problem = "its row of the image's manifest \(error.text)"
        }
    }
}
