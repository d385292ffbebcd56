extension KernelTarget {
    /// Compares with the GPUs of a host: one that runs the kernel is enough, and a kernel is `foreign` only where every
    /// one of them surely cannot run it. `unknown` without GPUs.
    package func verdict(on gpus: [GPU]) -> Verdict {
        // Of equal matches the first GPU's.
        var decided: (match: Match, gpu: GPU, device: Architecture)?
        for gpu in gpus {
            for device in [gpu.architecture, gpu.overriddenArchitecture].compactMap(\.self) {
                let match = match(on: gpu, as: device)
                if match.weight > decided?.match.weight ?? -1 { decided = (match, gpu, device) }
            }
        }
        guard let (match, gpu, device) = decided else {
            return Verdict(outcome: .unknown, reason: "\(builtFor); no GPU is known to compare with", rule: "no-gpu")
        }
        let note = device == gpu.architecture ? "" : ", which HSA_OVERRIDE_GFX_VERSION makes \(device)"
        let sides = match.outcome == .runs ? "runs on \(gpu.label)\(note)" : Self.list(gpus)
        return Verdict(
            outcome: match.outcome, reason: match.detail ?? "\(builtFor); \(sides)", rule: match.rule.rawValue)
    }

    /// - Parameter device: what the GPU is, or what its runtime says that it is.
    private func match(on gpu: GPU, as device: Architecture) -> Match {
        let match =
            switch (architecture, device) {
            case (.cuda(let target), .cuda(let device)): cudaMatch(target, device, gpu)
            case (.gfx(let target), .gfx(let device)): gfxMatch(target, device, gpu)
            default: Match.foreign(.backend)
            }
        return match.outcome == .foreign ? match : warpMismatch(gpu, device) ?? match
    }

    /// The rule of warps. A recorded size that no GPU has says nothing.
    private func warpMismatch(_ gpu: GPU, _ device: Architecture) -> Match? {
        guard let warpSize, [32, 64].contains(warpSize), warpSize != device.warpSize else { return nil }
        // From gfx10 on a wavefront is as the code was compiled (LLVM, AMDGPUUsage.rst, wavefrontsize64); Triton asks
        // for one size all the same.
        if case .gfx(let device) = device, device.major >= 10, form != .tritonEntry { return nil }
        return .foreign(
            .warpSize, "built for warps of \(warpSize) threads; those of \(gpu.label) have \(device.warpSize)")
    }

    /// `built for sm_80`, `PTX 8.4 for sm_80`.
    var builtFor: String {
        if case .ptx(let isa) = form { return "PTX \(isa) for \(architecture)" }
        return "built for \(architecture)"
    }

    /// `this host has sm_90 (NVIDIA H100 80GB HBM3) and gfx942 (MI300X)`.
    private static func list(_ gpus: [GPU]) -> String {
        var labels: [String] = []
        for gpu in gpus where !labels.contains(gpu.label) { labels.append(gpu.label) }
        if labels.count > 3 { labels = labels.prefix(3) + ["\(labels.count - 3) more"] }
        let names = [labels.dropLast().joined(separator: ", "), labels.suffix(1).joined()].filter { !$0.isEmpty }
        let subject = gpus.allSatisfy(\.isAssumed) ? "to be run on" : "this host has"
        return "\(subject) \(names.joined(separator: " and "))"
    }
}

extension GPU {
    /// `sm_90 (NVIDIA H100 80GB HBM3)`.
    var label: String { label(as: target) }

    /// `gfx90a:xnack- (AMD Instinct MI210)`.
    func label(as architecture: some CustomStringConvertible) -> String {
        name.isEmpty || name == target || name == self.architecture.description
            ? "\(architecture)" : "\(architecture) (\(name))"
    }
}
