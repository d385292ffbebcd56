import Testing

@testable import GPUCompat

@Suite("Rules of CUDA")
struct CUDARulesTests {
    static let gpus = [70, 72, 75, 80, 86, 87, 89, 90, 100, 103, 107, 110, 120, 121]

    /// The rows of NVIDIA's rule of binary compatibility, written out.
    static let cubins: [(target: String, runs: Set<Int>, unknown: Set<Int>)] = [
        ("sm_70", [70, 75], [72]), ("sm_72", [72], [75]), ("sm_75", [75], []),
        ("sm_80", [80, 86, 89], [87]), ("sm_86", [86, 89], [87]), ("sm_87", [87], [89]), ("sm_89", [89], []),
        ("sm_90", [90], []), ("sm_90a", [90], []),
        ("sm_100", [100, 103, 107], []), ("sm_100a", [100], []), ("sm_100f", [100, 103, 107], []),
        ("sm_103", [103, 107], []), ("sm_103a", [103], []), ("sm_103f", [103, 107], []), ("sm_107f", [107], []),
        ("sm_110", [110], []), ("sm_110a", [110], []), ("sm_110f", [110], []),
        ("sm_101", [110], []), ("sm_101a", [110], []), ("sm_101f", [110], []),
        ("sm_120", [120, 121], []), ("sm_120a", [120], []), ("sm_120f", [120, 121], []),
        ("sm_121", [121], []), ("sm_121a", [121], []), ("sm_121f", [121], []),
    ]

    @Test("a cubin runs within its major version, with a suffix on fewer", arguments: cubins)
    func cubin(text: String, runs: Set<Int>, unknown: Set<Int>) throws {
        let kernel = try target(text, .cubin)
        for number in Self.gpus {
            let expected: Verdict.Outcome =
                runs.contains(number) ? .runs : unknown.contains(number) ? .unknown : .foreign
            #expect(kernel.verdict(on: [try gpu("sm_\(number)")]).outcome == expected, "\(text) on \(number)")
        }
    }

    /// What `ptxas` 13.4 accepted as `--gpu-name` for each `.target`.
    static let ptx: [(target: String, runs: Set<Int>)] = [
        ("sm_75", [75, 80, 86, 87, 89, 90, 100, 103, 107, 110, 120, 121]),
        ("sm_80", [80, 86, 87, 89, 90, 100, 103, 107, 110, 120, 121]),
        ("sm_90", [90, 100, 103, 107, 110, 120, 121]),
        ("sm_90a", [90]),
        ("sm_100", [100, 103, 107, 110, 120, 121]),
        ("sm_100f", [100, 103, 107]),
        ("sm_100a", [100]),
        ("sm_103f", [103, 107]),
        ("sm_103a", [103]),
        ("sm_107f", [107]),
        ("sm_110f", [110]),
        ("sm_120", [120, 121]),
        ("sm_120f", [120, 121]),
        ("sm_120a", [120]),
        ("sm_121f", [121]),
    ]

    @Test("PTX is compiled for its own architecture and later ones, with a suffix for fewer", arguments: ptx)
    func ptxTarget(text: String, runs: Set<Int>) throws {
        let kernel = try target(text, .ptx(isa: PTXVersion(major: 8, minor: 8)))
        for number in Self.gpus {
            let verdict = kernel.verdict(on: [try gpu("sm_\(number)", cuda: "13.4")])
            #expect(verdict.outcome == (runs.contains(number) ? .runs : .foreign), "\(text) on \(number)")
        }
    }

    /// A version of PTX, the first CUDA that knows it, and the one before.
    static let versions = [
        ("6.4", "10.1", "10.0"), ("7.0", "11.0", "10.2"), ("7.4", "11.4", "11.3"), ("7.8", "11.8", "11.7"),
        ("8.0", "12.0", "11.8"), ("8.4", "12.4", "12.3"), ("8.5", "12.5", "12.4"), ("8.6", "12.7", "12.6"),
        ("8.7", "12.8", "12.7"), ("8.8", "12.9", "12.8"), ("9.0", "13.0", "12.9"), ("9.1", "13.1", "13.0"),
        ("9.4", "13.4", "13.3"),
    ]

    @Test("PTX needs a driver that knows its version; a container for data centers may bring one", arguments: versions)
    func ptxVersion(isa: String, first: String, before: String) throws {
        let kernel = try target("sm_80", .ptx(isa: #require(PTXVersion(isa))))
        #expect(kernel.verdict(on: [try gpu("sm_90", cuda: first)]).outcome == .runs)
        #expect(kernel.verdict(on: [try gpu("sm_90", "NVIDIA H100 PCIe", cuda: before)]).outcome == .unknown)
        let verdict = kernel.verdict(on: [try gpu("sm_89", "NVIDIA GeForce RTX 4090", cuda: before)])
        #expect(verdict.outcome == .foreign && verdict.rule == "ptx-isa")
        #expect(
            verdict.reason
                == "PTX \(isa) for sm_80 needs CUDA \(first); "
                + "the driver of sm_89 (NVIDIA GeForce RTX 4090) has CUDA \(before)"
        )
    }

    @Test("CUDA 12.6 brought no new PTX, and a CUDA that is not in the table knows what those in it know")
    func betweenVersions() throws {
        func outcome(_ isa: String, _ cuda: String) throws -> Verdict.Outcome {
            try target("sm_80", .ptx(isa: #require(PTXVersion(isa))))
                .verdict(on: [try gpu("sm_86", "NVIDIA GeForce RTX 3090", cuda: cuda)]).outcome
        }
        #expect(try outcome("8.5", "12.6") == .runs)
        #expect(try outcome("9.4", "14.2") == .runs)
        #expect(try outcome("9.5", "13.3") == .foreign)
        #expect(try outcome("9.5", "13.4") == .unknown)
        #expect(try outcome("8.9", "13.0") == .runs)
        #expect(try outcome("8.9", "12.9") == .unknown)
        #expect(try outcome("1.0", "8.0") == .unknown)
    }

    /// A driver whose CUDA is not known, a version of PTX, what can be said.
    static let branches: [(driver: String?, isa: String, outcome: Verdict.Outcome)] = [
        ("580.126.18", "9.0", .runs), ("580.126.18", "9.1", .unknown), ("525.60.13", "8.0", .runs),
        ("535.129.03", "8.4", .unknown), ("535.129.03", "9.0", .foreign), ("470.57.02", "7.0", .runs),
        ("470.57.02", "8.0", .foreign), ("440.33.01", "7.0", .foreign), ("440.33.01", "6.4", .unknown),
        (nil, "7.0", .unknown), ("", "7.0", .unknown), ("x.y", "7.0", .unknown),
        ("-9223372036854775808", "7.0", .foreign),
    ]

    @Test("the branch of the driver bounds its CUDA", arguments: branches)
    func driverBranch(driver: String?, isa: String, outcome: Verdict.Outcome) throws {
        let kernel = try target("sm_80", .ptx(isa: #require(PTXVersion(isa))))
        let gpu = try gpu("sm_89", "NVIDIA GeForce RTX 4090", driver: driver)
        #expect(kernel.verdict(on: [gpu]).outcome == outcome)
    }

    @Test("for a GPU that is only named, the version of PTX is a condition and no obstacle")
    func assumedDriver() throws {
        let kernel = try target("sm_80", .ptx(isa: PTXVersion(major: 8, minor: 7)))
        let verdict = kernel.verdict(on: try GPUSpec.gpus(from: ["H100"]))
        #expect(verdict.outcome == .runs)
        #expect(verdict.reason == "PTX 8.7 for sm_80; runs on sm_90 (H100) where the driver has CUDA 12.8 or later")
    }

    @Test("families and architectures that are not in the tables hide nothing within a major version")
    func future() throws {
        for (kernel, device, outcome) in [
            ("sm_130f", "sm_131", Verdict.Outcome.unknown), ("sm_130f", "sm_140", .foreign),
            ("sm_120f", "sm_123", .unknown), ("sm_120f", "sm_130", .foreign), ("sm_130", "sm_131", .runs),
            ("sm_130a", "sm_131", .foreign),
        ] {
            #expect(try target(kernel, .cubin).verdict(on: [gpu(device)]).outcome == outcome, "\(kernel) on \(device)")
        }
    }

    @Test("an entry of Triton's is for its own architecture alone, whatever its suffix")
    func triton() throws {
        for number in Self.gpus {
            for device in Self.gpus {
                let verdict = try target("sm_\(number)", .tritonEntry).verdict(on: [gpu("sm_\(device)")])
                #expect(verdict.outcome == (number == device ? .runs : .foreign))
                #expect(verdict.rule == "triton-exact")
            }
        }
        #expect(try target("sm_90a", .tritonEntry).verdict(on: [gpu("sm_90")]).outcome == .runs)
        #expect(try target("sm_90", .tritonEntry).verdict(on: [gpu("sm_90a")]).outcome == .runs)
        // CUDA 12.8 and CUDA 13 have two names for Thor.
        #expect(try target("sm_101", .tritonEntry).verdict(on: [gpu("sm_110")]).outcome == .runs)
    }
}
