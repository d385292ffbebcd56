import Testing

@testable import GPUCompat

@Suite("Rules of AMD")
struct GFXRulesTests {
    static let gpus = [
        "gfx900", "gfx906", "gfx908", "gfx90a", "gfx90c", "gfx942", "gfx950", "gfx1010", "gfx1030", "gfx1036",
        "gfx1100",
        "gfx1101", "gfx1151", "gfx1153", "gfx1171", "gfx1200", "gfx1201", "gfx1250", "gfx1310",
    ]

    /// The rows of LLVM's table of generic processors, as far as their members are among `gpus`.
    static let generic: [(target: String, runs: Set<String>)] = [
        ("gfx9-generic", ["gfx900", "gfx906", "gfx90c"]),
        ("gfx9-4-generic", ["gfx942", "gfx950"]),
        ("gfx10-1-generic", ["gfx1010"]),
        ("gfx10-3-generic", ["gfx1030", "gfx1036"]),
        ("gfx11-generic", ["gfx1100", "gfx1101", "gfx1151", "gfx1153"]),
        ("gfx11-7-generic", ["gfx1171"]),
        ("gfx12-generic", ["gfx1200", "gfx1201"]),
        ("gfx12-5-generic", ["gfx1250"]),
        ("gfx13-generic", ["gfx1310"]),
    ]

    @Test("a code object runs on its own processor alone", arguments: gpus)
    func exact(processor: String) throws {
        for form in [KernelTarget.Form.tritonEntry, .codeObject(genericVersion: nil)] {
            for device in Self.gpus {
                let verdict = try target(processor, form).verdict(on: [gpu(device)])
                #expect(verdict.outcome == (device == processor ? .runs : .foreign), "\(processor) on \(device)")
                #expect(verdict.rule == (form == .tritonEntry ? "triton-exact" : "gfx-exact"))
            }
        }
    }

    @Test("a generic code object runs on the processors that are listed for it", arguments: generic)
    func members(text: String, runs: Set<String>) throws {
        for version in [nil, 1, 2] {
            let kernel = try target(text, .codeObject(genericVersion: version))
            for device in Self.gpus {
                let verdict = kernel.verdict(on: [try gpu(device)])
                #expect(verdict.outcome == (runs.contains(device) ? .runs : .foreign), "\(text) on \(device)")
                #expect(verdict.rule == "gfx-generic")
            }
        }
    }

    @Test("a generic code object of a version before the processor was listed does not run")
    func genericVersion() throws {
        let verdict = try target("gfx11-generic", .codeObject(genericVersion: 0)).verdict(on: [gpu("gfx1100")])
        #expect(verdict.outcome == .foreign)
        #expect(verdict.reason == "built for gfx11-generic, version 0; gfx1100 needs version 1")
    }

    @Test("a processor that no table has may be a member, within its generation")
    func future() throws {
        for (kernel, device, outcome) in [
            ("gfx11-generic", "gfx1154", Verdict.Outcome.unknown), ("gfx12-generic", "gfx1154", .foreign),
            ("gfx14-generic", "gfx1400", .unknown), ("gfx14-generic", "gfx1310", .foreign),
            ("gfx9-9-generic", "gfx90a", .unknown),
        ] {
            let kernel = try target(kernel, .codeObject(genericVersion: 1))
            #expect(kernel.verdict(on: [try gpu(device)]).outcome == outcome, "\(kernel) on \(device)")
        }
    }

    /// Target, GPU, outcome, the rule that says no.
    static let features: [(target: String, gpu: String, outcome: Verdict.Outcome, rule: String)] = [
        ("gfx90a", "gfx90a", .runs, "gfx-exact"),
        ("gfx90a", "gfx90a:sramecc+:xnack+", .runs, "gfx-exact"),
        ("gfx90a:xnack+", "gfx90a:xnack+", .runs, "gfx-exact"),
        ("gfx90a:xnack+", "gfx90a:xnack-", .foreign, "xnack"),
        ("gfx90a:xnack-", "gfx90a:xnack+", .foreign, "xnack"),
        // The setting is not known: off by default, but a process may turn it on.
        ("gfx90a:xnack-", "gfx90a", .runs, "gfx-exact"),
        ("gfx90a:xnack+", "gfx90a", .unknown, "xnack"),
        ("gfx90a:sramecc+", "gfx90a:sramecc+", .runs, "gfx-exact"),
        ("gfx90a:sramecc-", "gfx90a:sramecc+", .foreign, "sramecc"),
        ("gfx906:sramecc+", "gfx906:sramecc-", .foreign, "sramecc"),
        ("gfx906:sramecc+", "gfx906", .unknown, "sramecc"),
        ("gfx90a:sramecc+:xnack-", "gfx90a:sramecc+:xnack+", .foreign, "xnack"),
        ("gfx9-4-generic:xnack+", "gfx942:xnack-", .foreign, "xnack"),
        ("gfx9-4-generic:xnack-", "gfx942:xnack-", .runs, "gfx-generic"),
        ("gfx90a:xnack+", "gfx942:xnack+", .foreign, "gfx-exact"),
    ]

    @Test("a feature that was chosen must be set so", arguments: features)
    func feature(text: String, device: String, outcome: Verdict.Outcome, rule: String) throws {
        let verdict = try target(text, .codeObject(genericVersion: nil)).verdict(on: [gpu(device, "AMD Instinct MI210")]
        )
        #expect(verdict.outcome == outcome)
        #expect(verdict.rule == rule)
    }

    @Test("reasons name the setting")
    func reasons() throws {
        let kernel = try target("gfx90a:xnack+", .tritonEntry)
        #expect(
            kernel.verdict(on: [try gpu("gfx90a:xnack-", "AMD Instinct MI210")]).reason
                == "built for gfx90a:xnack+; this host has gfx90a:xnack- (AMD Instinct MI210)")
        #expect(
            kernel.verdict(on: [try gpu("gfx90a", "AMD Instinct MI210")]).reason
                == "built for gfx90a:xnack+; runs on gfx90a (AMD Instinct MI210) where xnack is on")
    }

    @Test("with HSA_OVERRIDE_GFX_VERSION kernels of both names are shown")
    func override() throws {
        var card = try gpu("gfx1031", "RX 6700")
        card.overriddenArchitecture = Architecture("gfx1030")
        let object = KernelTarget.Form.codeObject(genericVersion: nil)
        #expect(try target("gfx1031", object).verdict(on: [card]).outcome == .runs)
        let verdict = try target("gfx1030", object).verdict(on: [card])
        #expect(verdict.outcome == .runs)
        #expect(
            verdict.reason
                == "built for gfx1030; runs on gfx1031 (RX 6700), which HSA_OVERRIDE_GFX_VERSION makes gfx1030")
        #expect(try target("gfx1032", object).verdict(on: [card]).outcome == .foreign)
    }
}
