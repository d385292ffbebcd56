import Catalog
import GPUCompat
import MCFSCore
import Testing

@testable import KernelCaches

@Suite("Verdicts on the kernels of a tree")
struct VerdictTests {
    /// What Triton looks for: entries of exactly its GPU. Rows: what an entry was built for. `R` runs, `-` is foreign.
    static let expected = """
                 sm_70 sm_75 sm_80 sm_86 sm_87 sm_89 sm_90 sm_100 sm_103 sm_110 sm_120 sm_121 gfx906 gfx908 gfx90a gfx942 gfx950 gfx1030 gfx1100 gfx1101 gfx1201
        cuda:75    -     R     -     -     -     -     -     -      -      -      -      -      -      -      -      -      -       -       -       -       -
        cuda:80    -     -     R     -     -     -     -     -      -      -      -      -      -      -      -      -      -       -       -       -       -
        cuda:86    -     -     -     R     -     -     -     -      -      -      -      -      -      -      -      -      -       -       -       -       -
        cuda:89    -     -     -     -     -     R     -     -      -      -      -      -      -      -      -      -      -       -       -       -       -
        cuda:90    -     -     -     -     -     -     R     -      -      -      -      -      -      -      -      -      -       -       -       -       -
        cuda:100   -     -     -     -     -     -     -     R      -      -      -      -      -      -      -      -      -       -       -       -       -
        cuda:103   -     -     -     -     -     -     -     -      R      -      -      -      -      -      -      -      -       -       -       -       -
        cuda:120   -     -     -     -     -     -     -     -      -      -      R      -      -      -      -      -      -       -       -       -       -
        hip:gfx90a -     -     -     -     -     -     -     -      -      -      -      -      -      -      R      -      -       -       -       -       -
        hip:gfx942 -     -     -     -     -     -     -     -      -      -      -      -      -      -      -      R      -       -       -       -       -
        hip:gfx950 -     -     -     -     -     -     -     -      -      -      -      -      -      -      -      -      R       -       -       -       -
        hip:gfx1100 -    -     -     -     -     -     -     -      -      -      -      -      -      -      -      -      -       -       R       -       -
        """

    static let table = expected.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
    static let gpuNames = table.first ?? []

    static func gpu(_ name: String, _ index: Int = 0) throws -> GPU {
        let architecture = try #require(Architecture(name))
        return GPU(
            index: index, vendor: architecture.backend == .cuda ? .nvidia : .amd, name: name, architecture: architecture
        )
    }

    /// The survey of the fixture and what its metadata says.
    static func fixture() throws -> (tree: Tree, survey: KernelSurvey, descriptions: [KernelDescription?]) {
        let tree = try Fixture.tree()
        let survey = KernelSurvey(tree)
        let descriptions = try survey.entries.map { entry -> KernelDescription? in
            let file = try #require(entry.metadata.first)
            return KernelDescription(
                entry.kind, directoryName: tree.withName(of: entry.directory) { Array($0) },
                metadata: try Fixture.bytes(tree.path(of: file).description))
        }
        return (tree, survey, descriptions)
    }

    @Test("every entry of the fixture is shown by the GPU that it was built for, and hidden by each other")
    func fixtureTable() throws {
        let (tree, survey, descriptions) = try Self.fixture()
        #expect(Self.gpuNames.count == 21)
        var rows: [String: [String]] = [:]
        for row in Self.table.dropFirst() {
            #expect(row.count == 1 + Self.gpuNames.count)
            rows[row[0]] = Array(row.dropFirst())
        }
        #expect(rows.count == 12)
        var judged = 0
        for (column, name) in Self.gpuNames.enumerated() {
            let verdicts = survey.verdicts(descriptions, on: [try Self.gpu(name)])
            for row in Fixture.kernels {
                let directory = try #require(tree.entry(at: TreePath(row.directory)))
                let position = try #require(survey.entry(holding: directory))
                let cell = try #require(rows["\(row.backend):\(row.arch)"])[column]
                let expected = try #require(["R": Verdict.Outcome.runs, "-": .foreign][cell])
                #expect(verdicts[position].outcome == expected, "\(row) on \(name): \(verdicts[position].reason)")
                judged += 1
            }
        }
        #expect(judged == 35 * 21)
    }

    @Test("one of several GPUs is enough, and without any nothing is hidden")
    func severalGPUs() throws {
        let (tree, survey, descriptions) = try Self.fixture()
        let gpus = [try Self.gpu("sm_80"), try Self.gpu("gfx942", 1)]
        let verdicts = survey.verdicts(descriptions, on: gpus)
        for row in Fixture.kernels {
            let directory = try #require(tree.entry(at: TreePath(row.directory)))
            let position = try #require(survey.entry(holding: directory))
            let isOurs = row.arch == "80" || row.arch == "gfx942"
            #expect(verdicts[position].outcome == (isOurs ? .runs : .foreign), "\(row)")
        }
        #expect(survey.verdicts(descriptions, on: []).allSatisfy { $0.outcome == .unknown })
        let nothing = [KernelDescription?](repeating: nil, count: survey.entries.count)
        #expect(survey.verdicts(nothing, on: gpus).allSatisfy { $0.outcome == .unknown })
    }

    static let key = KernelSurveyTests.key
    static let other = KernelSurveyTests.other

    static func metadata(_ backend: String, _ arch: String) -> [UInt8] {
        Array(#"{"target": {"backend": "\#(backend)", "arch": \#(arch)}}"#.utf8)
    }

    /// Outcomes by path, of a tree whose Triton entries have these targets, in the order of the survey.
    static func outcomes(
        _ paths: [String], _ metadata: [[UInt8]?], on gpus: [String]
    ) throws -> [String: Verdict.Outcome] {
        let tree = try makeTree(withBinaries(paths))
        let survey = KernelSurvey(tree)
        var rest = metadata[...]
        let descriptions = survey.entries.map { entry -> KernelDescription? in
            let bytes = entry.kind == .triton || entry.kind == .deepgemm ? rest.popFirst() ?? nil : nil
            return KernelDescription(
                entry.kind, directoryName: tree.withName(of: entry.directory) { Array($0) }, metadata: bytes)
        }
        let verdicts = survey.verdicts(descriptions, on: try gpus.map { try gpu($0) })
        let pairs = zip(survey.entries, verdicts).map { (tree.path(of: $0.directory).description, $1.outcome) }
        return Dictionary(uniqueKeysWithValues: pairs)
    }

    @Test("a directory of vLLM is hidden only if it holds Triton's entries only, and all of them are foreign")
    func vllm() throws {
        let whole = "torch_compile_cache/d4ec7c2a7d"
        let cache = "\(whole)/rank_0_0/triton_cache"
        let paths = ["\(cache)/\(Self.key)/k.json", "\(cache)/\(Self.other)/k.json"]
        let (sm80, sm90) = (Self.metadata("cuda", "80"), Self.metadata("cuda", "90"))
        let artifact = "\(whole)/rank_0_0/backbone/artifact_compile_range_1_2048_subgraph_0"
        #expect(try Self.outcomes(paths, [sm80, sm80], on: ["sm_90"])[whole] == .foreign)
        #expect(try Self.outcomes(paths, [sm80, sm90], on: ["sm_90"])[whole] == .runs)
        #expect(try Self.outcomes(paths, [sm80, Array("{}".utf8)], on: ["sm_90"])[whole] == .unknown)
        #expect(try Self.outcomes(paths, [sm80, nil], on: ["sm_90"])[whole] == .unknown)
        #expect(try Self.outcomes(paths + [artifact], [sm80, sm80], on: ["sm_90"])[whole] == .unknown)
        #expect(try Self.outcomes(paths + [artifact], [sm80, sm90], on: ["sm_90"])[whole] == .runs)
        #expect(try Self.outcomes([artifact], [], on: ["sm_90"])[whole] == .unknown)
        #expect(try Self.outcomes(["\(cache)/"], [], on: ["sm_90"])[whole] == .unknown)

        let model = "torch_compile_cache/torch_aot_compile/\(KernelSurveyTests.hex64)"
        let inductor = "\(model)/inductor_cache/triton/0/\(Self.key)"
        let aot = try Self.outcomes(["\(model)/rank_0_0/model", "\(inductor)/k.json"], [sm80], on: ["sm_90"])
        #expect(aot == [model: .unknown, inductor: .foreign])
    }

    @Test("an entry whose kernel nobody can tell is never hidden")
    func ambiguous() throws {
        let paths = ["\(Self.key)/a.json", "\(Self.key)/k.json"]
        #expect(try Self.outcomes(paths, [Self.metadata("cuda", "80")], on: ["sm_90"]) == [Self.key: .unknown])
    }

    /// FlashInfer compiles machine code for the listed architectures. `R` runs, `-` is foreign, `?` is unknown.
    @Test(
        "FlashInfer's directories run where one of their architectures does",
        arguments: [
            //               75  80  86  87  89  90 100 103 110 120 121 gfx942
            ("75", "          R   -   -   -   -   -   -   -   -   -   -   -"),
            ("80", "          -   R   R   ?   R   -   -   -   -   -   -   -"),
            ("86", "          -   -   R   ?   R   -   -   -   -   -   -   -"),
            ("89", "          -   -   -   -   R   -   -   -   -   -   -   -"),
            ("90a", "         -   -   -   -   -   R   -   -   -   -   -   -"),
            ("80_90a", "      -   R   R   ?   R   R   -   -   -   -   -   -"),
            ("100a_103a", "   -   -   -   -   -   -   R   R   -   -   -   -"),
            ("100a", "        -   -   -   -   -   -   R   -   -   -   -   -"),
            ("100f", "        -   -   -   -   -   -   R   R   -   -   -   -"),
            ("120f", "        -   -   -   -   -   -   -   -   -   R   R   -"),
            ("110a", "        -   -   -   -   -   -   -   -   R   -   -   -"),
        ])
    func flashInfer(_ name: String, _ row: String) throws {
        let gpus = [
            "sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_103", "sm_110", "sm_120", "sm_121",
            "gfx942",
        ]
        let cells = row.split(separator: " ")
        #expect(cells.count == gpus.count)
        for (gpu, cell) in zip(gpus, cells) {
            let directory = "flashinfer/0.2.14/\(name)"
            let expected = try #require(["R": Verdict.Outcome.runs, "-": .foreign, "?": .unknown][cell])
            #expect(try Self.outcomes(["\(directory)/x"], [], on: [gpu]) == [directory: expected], "\(gpu)")
        }
    }

    @Test(
        "a name that is no list of architectures hides nothing",
        arguments: ["9", "90b", "90a_", "90a__80", "90a_x", "9.0", "80_sm_90", "12345", "90A0"])
    func flashInferNames(_ name: String) throws {
        let directory = "flashinfer/0.2.14/\(name)"
        #expect(try Self.outcomes(["\(directory)/x"], [], on: ["gfx942"]) == [directory: .unknown])
    }

    /// Headers that ptxas wrote: of 12.9 for sm_90a, sm_100a and sm_100; of 13.5 for sm_100a, which it does not mark.
    @Test(
        "DeepGEMM's kernels are judged by the headers of their binaries",
        arguments: [
            //                              80  90 100 103 120 gfx942
            (0x33, 7, 0x005a_0d5a, "         -   R   -   -   -   -"),
            (0x41, 8, 0x0600_640a, "         -   -   R   -   -   -"),
            (0x41, 8, 0x0600_6402, "         -   -   R   ?   -   -"),
            (0x41, 8, 0x0600_5a04, "         -   R   -   -   -   -"),
            (0x41, 9, 0x0600_5a04, "         ?   ?   ?   ?   ?   ?"),
        ] as [(UInt8, UInt8, UInt32, String)])
    func deepGEMM(_ osABI: UInt8, _ abi: UInt8, _ flags: UInt32, _ row: String) throws {
        let directory = "cache/kernel.sm90_gemm.0f3a"
        let header = elf(osABI: osABI, abi: abi, machine: 190, flags: flags)
        for (gpu, cell) in zip(["sm_80", "sm_90", "sm_100", "sm_103", "sm_120", "gfx942"], row.split(separator: " ")) {
            let expected = try #require(["R": Verdict.Outcome.runs, "-": .foreign, "?": .unknown][cell])
            let found = try Self.outcomes(["\(directory)/kernel.cubin"], [header], on: [gpu])
            #expect(found == [directory: expected], "\(gpu)")
        }
    }
}

/// The first 64 bytes of a file.
func elf(osABI: UInt8, abi: UInt8, machine: UInt16, flags: UInt32) -> [UInt8] {
    var bytes: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, osABI, abi] + [UInt8](repeating: 0, count: 55)
    withUnsafeBytes(of: machine.littleEndian) { bytes.replaceSubrange(18..<20, with: $0) }
    withUnsafeBytes(of: flags.littleEndian) { bytes.replaceSubrange(48..<52, with: $0) }
    return bytes
}
