import Testing

@testable import GPUCompat

@Suite("Verdicts")
struct VerdictTests {
    @Test("without a GPU nothing is foreign")
    func noGPU() throws {
        let verdict = try target("sm_80", .cubin).verdict(on: [])
        #expect(verdict.outcome == .unknown)
        #expect(verdict.rule == "no-gpu")
    }

    @Test("a kernel that does not say what it needs is not hidden")
    func noTarget() {
        #expect(Verdict.noTarget.outcome == .unknown)
        #expect(Verdict.noTarget.rule == "no-target")
    }

    @Test("the reason names both sides")
    func reason() throws {
        let hopper = try gpu("sm_90", "NVIDIA H100 80GB HBM3")
        let ampere = try target("sm_80", .tritonEntry)
        #expect(ampere.verdict(on: [hopper]).reason == "built for sm_80; this host has sm_90 (NVIDIA H100 80GB HBM3)")
        #expect(
            try target("sm_90", .tritonEntry).verdict(on: [hopper]).reason
                == "built for sm_90; runs on sm_90 (NVIDIA H100 80GB HBM3)")
        #expect(
            try ampere.verdict(on: GPUSpec.gpus(from: ["sm_90a"])).reason == "built for sm_80; to be run on sm_90")
    }

    @Test("one GPU that runs it is enough, wherever it stands in the list")
    func several() throws {
        let kernel = try target("gfx942", .tritonEntry)
        let hopper = try gpu("sm_90", "NVIDIA H100 80GB HBM3")
        let instinct = try gpu("gfx942", "AMD Instinct MI300X")
        for gpus in [[hopper, instinct], [instinct, hopper], [hopper, hopper, instinct]] {
            let verdict = kernel.verdict(on: gpus)
            #expect(verdict.outcome == .runs)
            #expect(verdict.reason == "built for gfx942; runs on gfx942 (AMD Instinct MI300X)")
        }
        #expect(
            try target("sm_80", .tritonEntry).verdict(on: [hopper, hopper, instinct]).reason
                == "built for sm_80; this host has sm_90 (NVIDIA H100 80GB HBM3) and gfx942 (AMD Instinct MI300X)")
    }

    @Test("one GPU that may run it keeps it from being hidden")
    func maybe() throws {
        let kernel = try target("gfx90a:xnack+", .tritonEntry)
        let off = try gpu("gfx90a:xnack-")
        let notKnown = try gpu("gfx90a")
        #expect(kernel.verdict(on: [off]).outcome == .foreign)
        #expect(kernel.verdict(on: [off, notKnown]).outcome == .unknown)
        #expect(kernel.verdict(on: [notKnown, off]).outcome == .unknown)
    }

    @Test("a long list of GPUs is cut")
    func manyGPUs() throws {
        let gpus = try ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90"].map { try gpu($0) }
        #expect(
            try target("gfx942", .tritonEntry).verdict(on: gpus).reason
                == "built for gfx942; this host has sm_75, sm_80, sm_86 and 2 more")
    }

    @Test("CUDA and AMD are strangers to each other", arguments: [("sm_90", "gfx942"), ("gfx942", "sm_90")])
    func backend(kernel: String, device: String) throws {
        for form in [KernelTarget.Form.tritonEntry, .cubin, .codeObject(genericVersion: nil)] {
            let verdict = try target(kernel, form).verdict(on: [gpu(device)])
            #expect(verdict.outcome == .foreign)
            #expect(verdict.rule == "backend")
        }
    }

    /// Target, form, recorded size, outcome.
    static let warps: [(target: String, form: KernelTarget.Form, size: Int?, outcome: Verdict.Outcome)] = [
        ("sm_90", .tritonEntry, 32, .runs), ("sm_90", .tritonEntry, 64, .foreign), ("sm_90", .cubin, 64, .foreign),
        ("sm_90", .tritonEntry, nil, .runs),
        ("gfx942", .tritonEntry, 64, .runs), ("gfx942", .tritonEntry, 32, .foreign),
        ("gfx942", .codeObject(genericVersion: nil), 32, .foreign),
        ("gfx1100", .tritonEntry, 32, .runs), ("gfx1100", .tritonEntry, 64, .foreign),
        // gfx10 and later run wavefronts of both sizes.
        ("gfx1100", .codeObject(genericVersion: nil), 64, .runs),
        ("gfx1100", .codeObject(genericVersion: nil), 32, .runs),
        // No GPU has such warps: what is recorded is no size.
        ("sm_90", .tritonEntry, 0, .runs), ("sm_90", .tritonEntry, -1, .runs), ("gfx942", .tritonEntry, .max, .runs),
    ]

    @Test("warps must have the size that was recorded", arguments: warps)
    func warpSize(text: String, form: KernelTarget.Form, size: Int?, outcome: Verdict.Outcome) throws {
        let verdict = try target(text, form, warpSize: size).verdict(on: [gpu(text, "X")])
        #expect(verdict.outcome == outcome)
        if outcome == .foreign {
            #expect(verdict.rule == "warp-size")
            #expect(verdict.reason.hasPrefix("built for warps of \(size ?? 0) threads; those of \(text) (X) have"))
        }
    }

    @Test("a cubin of sm_80 may be Tegra's: it is shown, and the reason says why")
    func tegra() throws {
        let verdict = try target("sm_80", .cubin).verdict(on: [gpu("sm_87", "Orin")])
        #expect(verdict.outcome == .unknown)
        #expect(verdict.rule == "cubin-tegra")
    }
}
