package import GPUCompat

/// What an entry is and needs, as its metadata says. Kept for each entry of a tree, so its texts are short.
package struct KernelDescription: Hashable, Sendable {
    /// Of the kernel.
    package internal(set) var name: String?
    /// In hex digits.
    package internal(set) var hash: String?
    /// As the metadata spells it, known or not.
    package internal(set) var backend: String?
    /// Each is enough: FlashInfer builds for several architectures at once. Empty: nothing is known.
    package internal(set) var targets: [KernelTarget] = []
    package internal(set) var tritonVersion: String?
    package internal(set) var numWarps: Int?
    package internal(set) var numStages: Int?
    /// Why there is no target: one sentence, as `its metadata is not JSON (byte 12)`.
    package internal(set) var problem: String?

    /// The first of `targets`.
    package var target: KernelTarget? { targets.first }

    /// Where a header does not say all: the least that it can mean. The target is then the most.
    var narrowestTarget: KernelTarget?

    /// A file of metadata that is larger is not read.
    package static let metadataBytesMax: UInt64 = 1 << 20

    /// - Parameters:
    ///   - directoryName: the last component of the entry's path.
    ///   - metadata: the first of the entry's `metadata` that can be read, or as many bytes of it as the entry asks for;
    ///     nil where there is none.
    package init(_ kind: KernelEntry.Kind, directoryName: [UInt8], metadata: [UInt8]?) {
        do throws(MetadataFlaw) {
            switch kind {
            case .triton: try readTriton(directoryName, metadata)
            case .deepgemm: try readDeepGEMM(directoryName, metadata)
            case .flashinfer: try readFlashInfer(directoryName)
            case .nim: try readNIM(directoryName)
            case .vllm: hash = short(String(decoding: directoryName, as: UTF8.self))
            }
        } catch {
            problem = "its metadata \(error.text)"
        }
    }

    private mutating func readTriton(_ directoryName: [UInt8], _ metadata: [UInt8]?) throws(MetadataFlaw) {
        hash = TritonFile.hash(ofKey: directoryName)
        let value = try JSONValue(readable(metadata))
        guard value.members != nil else { throw MetadataFlaw("is not an object") }
        if let text = value["hash"]?.string, TritonFile.isKey(text.utf8) { hash = text }
        name = value["name"]?.string.map { short($0) }
        tritonVersion = value["triton_version"]?.string.map { short($0) }
        numWarps = value["num_warps"]?.integer
        numStages = value["num_stages"]?.integer
        guard let target = value["target"] else {
            let isTritons = value["num_warps"] != nil || value["num_stages"] != nil
            throw MetadataFlaw(isTritons ? "names no target, as before Triton 3.0" : "is no metadata of Triton")
        }
        guard target.members != nil else { throw MetadataFlaw("has a target that is no object") }
        backend = target["backend"]?.string.map { short($0) }
        targets = [
            try KernelTarget(
                triton: target["backend"], arch: target["arch"], warpSize: target["warp_size"],
                builtFor: value["arch"])
        ]
    }

    /// The digest of `kernel.<name>.<hex>` is over the compiler and its flags.
    private mutating func readDeepGEMM(_ directoryName: [UInt8], _ metadata: [UInt8]?) throws(MetadataFlaw) {
        let parts = String(decoding: directoryName, as: UTF8.self).split(separator: ".")
        if parts.count > 2, parts[0] == "kernel" {
            name = short(parts[1..<(parts.count - 1)].joined(separator: "."))
            hash = short(String(parts[parts.count - 1]))
        }
        guard let cubin = CubinHeader(try readable(metadata)) else { throw MetadataFlaw("is no cubin of a known form") }
        backend = KernelBackend.cuda.rawValue
        targets = [KernelTarget(architecture: .cuda(cubin.architecture), form: .cubin)]
        if cubin.suffix == nil {
            let narrowest = CUDAArchitecture(number: cubin.number, suffix: .a)
            narrowestTarget = KernelTarget(architecture: .cuda(narrowest), form: .cubin)
        }
    }

    /// `90a`, `80_90a`: what the compiler was asked for.
    private mutating func readFlashInfer(_ directoryName: [UInt8]) throws(MetadataFlaw) {
        let text = String(decoding: directoryName, as: UTF8.self)
        name = short(text)
        let parts = text.split(separator: "_", omittingEmptySubsequences: false)
        let architectures = parts.compactMap { part in
            // Digits and a letter, out of all that can be read as an architecture.
            part.utf8.allSatisfy { $0 != UInt8(ascii: ".") } && part.first?.isNumber == true
                ? CUDAArchitecture(part) : nil
        }
        guard architectures.count == parts.count, parts.count <= 32 else {
            throw MetadataFlaw("is its name, which is no list of CUDA architectures")
        }
        backend = KernelBackend.cuda.rawValue
        targets = architectures.map { KernelTarget(architecture: .cuda($0), form: .cubin) }
    }

    /// `0.11.1+ba20956e-l40sx1-bf16-throughput.1.1.0.17088220`: among other words a product and how many of it.
    private mutating func readNIM(_ directoryName: [UInt8]) throws(MetadataFlaw) {
        let version = String(decoding: directoryName, as: UTF8.self)
        name = short(version)
        let architectures = version.split(separator: "-").compactMap { word -> Architecture? in
            let word = word.prefix { $0 != "." }
            guard let times = word.lastIndex(of: "x"), let count = Int(word[word.index(after: times)...]), count > 0
            else { return nil }
            let product = String(word[..<times])
            // A number would be read as an architecture.
            guard Architecture(product) == nil, let gpus = try? GPUSpec.gpus(from: [product]), gpus.count == 1,
                gpus[0].architecture.backend == .cuda
            else { return nil }
            return gpus[0].architecture
        }
        guard architectures.count == 1 else { throw MetadataFlaw("is its version, which names no known GPU") }
        backend = KernelBackend.cuda.rawValue
        // An engine of TensorRT runs on exactly its GPU, which is what the form stands for.
        targets = [KernelTarget(architecture: architectures[0], form: .tritonEntry)]
    }

    private func readable(_ metadata: [UInt8]?) throws(MetadataFlaw) -> [UInt8] {
        guard let metadata else { throw MetadataFlaw("is not there or too large to be read") }
        guard metadata.count <= Self.metadataBytesMax else { throw MetadataFlaw("is too large to be read") }
        return metadata
    }
}

/// At most `count` scalars, by default as many as a file's name can have: metadata comes from anywhere.
func short(_ text: String, _ count: Int = 255) -> String { String(text.unicodeScalars.prefix(count)) }
