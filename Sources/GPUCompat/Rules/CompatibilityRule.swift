/// The rules that decide; their texts are `Verdict.rule`.
enum CompatibilityRule: String, CaseIterable {
    /// CUDA or AMD.
    case backend
    /// Triton looks for entries of exactly its GPU.
    case tritonExact = "triton-exact"
    /// A cubin runs within its major version, from its minor version on.
    case cubinMajor = "cubin-major"
    /// Cubins of Tegra and of other GPUs are not made for each other.
    case cubinTegra = "cubin-tegra"
    /// A cubin with the suffix `a` runs on its own architecture alone.
    case cubinExact = "cubin-exact"
    /// A cubin with the suffix `f` runs within its family.
    case cubinFamily = "cubin-family"
    /// PTX is compiled for its own architecture and for later ones; with a suffix, for fewer.
    case ptxTarget = "ptx-target"
    /// The driver must know the version of PTX.
    case ptxISA = "ptx-isa"
    /// An AMD code object runs on its own processor alone.
    case gfxExact = "gfx-exact"
    /// A generic code object runs on the processors that are listed for it.
    case gfxGeneric = "gfx-generic"
    case xnack
    case sramecc
    case warpSize = "warp-size"
}

/// What a rule says of one kernel and one GPU.
struct Match {
    var outcome: Verdict.Outcome
    var rule: CompatibilityRule
    /// A sentence, where it is more than that the architectures are these.
    var detail: String?

    static func runs(_ rule: CompatibilityRule, _ detail: String? = nil) -> Match {
        Match(outcome: .runs, rule: rule, detail: detail)
    }

    static func foreign(_ rule: CompatibilityRule, _ detail: String? = nil) -> Match {
        Match(outcome: .foreign, rule: rule, detail: detail)
    }

    static func unknown(_ rule: CompatibilityRule, _ detail: String) -> Match {
        Match(outcome: .unknown, rule: rule, detail: detail)
    }

    /// Of several GPUs, the one that says most about a kernel: one that runs it, then one that may, then the one that
    /// fails last.
    var weight: Int {
        switch outcome {
        case .runs: 4
        case .unknown: 3
        case .foreign: rule == .backend ? 0 : detail == nil ? 1 : 2
        }
    }
}
