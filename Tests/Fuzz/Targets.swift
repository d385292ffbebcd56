import Glibc
@testable import GPUCompat
@testable import KernelCaches

/// What `scripts/fuzz` gives input to. A target takes any bytes; a broken rule ends the process, which libFuzzer reports
/// with the input.
enum Target: String {
    case metadata, group, manifest, labels, binary, ptx, name, kfd

    func run(_ bytes: [UInt8]) {
        switch self {
        case .metadata:
            Self.describe(.triton, [], bytes)
            Self.read(record: KernelDescription.sealed(bytes))
        case .group: Self.group(bytes)
        case .manifest: Self.manifest(bytes)
        case .labels: Self.labels(bytes)
        case .binary: Self.binary(bytes)
        case .ptx: Self.ptx(bytes)
        case .name: Self.name(bytes)
        case .kfd: Self.kfd(bytes)
        }
    }

    private static let gpus: [GPU] = ["sm_80", "sm_90", "sm_103", "gfx90a:sramecc+:xnack-", "gfx1100"].enumerated()
        .compactMap { index, name in
            Architecture(name).map { architecture in
                GPU(
                    index: index, vendor: architecture.backend == .cuda ? .nvidia : .amd, name: name,
                    architecture: architecture)
            }
        }

    /// A description has targets or a reason why not; it is short; each target can be judged.
    private static func describe(_ kind: KernelEntry.Kind, _ name: [UInt8], _ metadata: [UInt8]?) {
        let description = KernelDescription(kind, directoryName: name, metadata: metadata)
        precondition(kind == .vllm || description.targets.isEmpty == (description.problem != nil))
        for text in [description.name, description.hash, description.backend, description.problem] {
            precondition((text?.unicodeScalars.count ?? 0) <= 400)
        }
        precondition(KernelDescription(record: description.record) == description)
        judge(description.targets)
    }

    /// What is read is written so that it reads the same, and can be judged.
    private static func read(record: [UInt8]) {
        guard let description = KernelDescription(record: record) else { return }
        precondition(KernelDescription(record: description.record) == description)
        judge(description.targets)
    }

    private static func judge(_ targets: [KernelTarget]) {
        for target in targets {
            precondition(target.verdict(on: []).outcome == .unknown)
            precondition(!target.verdict(on: gpus).reason.isEmpty)
        }
    }

    /// What is read is written so that it reads the same; a rebased group names files of its directory only.
    private static func group(_ bytes: [UInt8]) {
        guard let group = TritonGroup(bytes) else { return }
        precondition(TritonGroup(group.serialized()) == group)
        let moved = group.rebased(to: "/m")
        precondition(moved.childPaths.map(\.name) == group.childPaths.map(\.name))
        for child in moved.childPaths where !moved.isRelocatable {
            precondition(child.path.utf8.starts(with: "/m/".utf8))
            precondition(!child.path.utf8.dropFirst(3).contains(UInt8(ascii: "/")))
        }
        let left = group.leavingOut { TritonFile.isIntermediate($0.utf8) }
        precondition(TritonGroup(left.serialized()) == left)
    }

    private static func manifest(_ bytes: [UInt8]) {
        guard let manifest = CacheManifest(bytes) else { return }
        for (hash, description) in manifest.descriptions {
            precondition(TritonFile.isKey(hash.utf8) && description.hash == hash)
            judge(description.targets)
        }
    }

    private static func labels(_ bytes: [UInt8]) {
        var labels: [String: String] = [:]
        for line in bytes.split(separator: UInt8(ascii: "\n")) {
            let parts = line.split(separator: UInt8(ascii: "="), maxSplits: 1)
            if parts.count == 2 {
                labels[String(decoding: parts[0], as: UTF8.self)] = String(decoding: parts[1], as: UTF8.self)
            }
        }
        guard let summary = CacheImageSummary(labels: labels) else { return }
        precondition(!summary.isReliable || !summary.targets.isEmpty)
        judge(summary.targets)
    }

    /// The beginning of a file tells nothing that the whole of it contradicts.
    private static func binary(_ bytes: [UInt8]) {
        describe(.deepgemm, [], bytes)
        guard let whole = CubinHeader(bytes) else { return judge([KernelTarget(binary: bytes)].compactMap(\.self)) }
        let beginning = CubinHeader(Array(bytes.prefix(ELFHeader.byteCount)))
        precondition(beginning?.number == whole.number)
        precondition(beginning?.suffix == nil || beginning?.suffix == whole.suffix)
    }

    private static func ptx(_ bytes: [UInt8]) {
        guard let header = PTXHeader(bytes) else { return }
        judge([KernelTarget(architecture: .cuda(header.architecture), form: .ptx(isa: header.version))])
    }

    /// Any name of a directory, and any text for an architecture.
    private static func name(_ bytes: [UInt8]) {
        for kind in KernelEntry.Kind.allCases { describe(kind, bytes, nil) }
        precondition(TritonFile.isKey(bytes) == (TritonFile.hash(ofKey: bytes) != nil))
        if let hash = TritonFile.hash(ofKey: bytes) {
            let keys = TritonFile.keys(ofHash: hash)
            precondition(keys.contains { bytes.elementsEqual($0.utf8) })
            precondition(keys.allSatisfy { TritonFile.hash(ofKey: $0.utf8) == hash })
        }
        let kinds = [
            TritonFile.isIntermediate(bytes), TritonFile.isBinary(bytes), TritonFile.isGroup(bytes),
            TritonFile.isMetadata(bytes),
        ]
        precondition(kinds.filter(\.self).count <= 1)
        let text = String(decoding: bytes, as: UTF8.self)
        if let architecture = Architecture(text) {
            precondition(Architecture(architecture.description) == architecture)
        }
        _ = try? GPUSpec.gpus(from: [text])
    }

    private static func kfd(_ bytes: [UInt8]) {
        let properties = KFDProperties(String(decoding: bytes, as: UTF8.self))
        _ = (properties.isGPU, properties.pci, properties.sramecc)
        if let processor = properties.processor { precondition(GFXArchitecture(processor) != nil) }
    }
}

private let target: Target = {
    guard let name = getenv("MCFS_FUZZ_TARGET"), let target = Target(rawValue: String(cString: name)) else {
        fatalError("MCFS_FUZZ_TARGET names no target")
    }
    return target
}()

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    target.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
}
