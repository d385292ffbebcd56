import GPUCompat
import Testing

@testable import KernelCaches

@Suite("What metadata says")
struct KernelDescriptionTests {
    static let key = KernelSurveyTests.key

    static func triton(_ text: String) -> KernelDescription {
        KernelDescription(.triton, directoryName: Array(key.utf8), metadata: Array(text.utf8))
    }

    @Test("the metadata of each version of Triton is understood", arguments: Fixture.kernels)
    func fixture(_ row: Fixture.Row) throws {
        let name = try #require(row.directory.split(separator: "/").last)
        let bytes = try Fixture.bytes("\(row.directory)/\(row.kernel).json")
        let description = KernelDescription(.triton, directoryName: Array(name.utf8), metadata: bytes)
        #expect(description.problem == nil)
        #expect(description.name == row.kernel)
        #expect(description.hash == TritonFile.hash(ofKey: name.utf8))
        #expect(description.backend == row.backend)
        let target = try #require(description.target)
        #expect(target.architecture == Architecture(row.backend == "cuda" ? "sm_\(row.arch)" : row.arch))
        #expect(target.form == .tritonEntry)
        #expect(target.warpSize == Int(row.warpSize))
        #expect(description.targets.count == 1)
        #expect(description.tritonVersion == (row.tritonVersion < "3.3" ? nil : row.tritonVersion))
        #expect(description.numWarps == 4)
        #expect(description.numStages != nil)
        #expect(KernelDescription(record: description.record) == description)
    }

    @Test(
        "targets are read as producers write them",
        arguments: [
            (#"{"backend": "cuda", "arch": 90, "warp_size": 32}"#, "sm_90", 32),
            (#"{"backend": "cuda", "arch": 90}"#, "sm_90", nil),
            (#"{"backend": "cuda", "arch": 90, "warp_size": null}"#, "sm_90", nil),
            (#"{"backend": "cuda", "arch": "90"}"#, "sm_90", nil),
            (#"{"backend": "cuda", "arch": "sm_90"}"#, "sm_90", nil),
            (#"{"backend": "cuda", "arch": "sm_90a"}"#, "sm_90", nil),
            (#"{"backend": "cuda", "arch": "sm120"}"#, "sm_120", nil),
            (#"{"backend": "hip", "arch": "gfx942", "warp_size": 64}"#, "gfx942", 64),
            (#"{"backend": "rocm", "arch": "gfx942"}"#, "gfx942", nil),
            (#"{"backend": "hip", "arch": "gfx90a:sramecc+:xnack-"}"#, "gfx90a:sramecc+:xnack-", nil),
            (#"{"backend": "hip", "arch": "gfx1100", "warp_size": 32}"#, "gfx1100", 32),
            (#"{"backend": "hip", "arch": "gfx1100", "warp_size": 64}"#, "gfx1100", 64),
        ] as [(String, String, Int?)])
    func targets(_ target: String, _ architecture: String, _ warpSize: Int?) {
        let description = Self.triton(#"{"target": \#(target), "name": "k"}"#)
        #expect(description.problem == nil)
        #expect(description.target?.architecture.description == architecture)
        #expect(description.target?.warpSize == warpSize)
    }

    @Test(
        "a target that cannot be is none, and the reason is told",
        arguments: [
            (#"{"name": "k", "num_warps": 4}"#, "names no target, as before Triton 3.0"),
            (#"{"num_stages": 3}"#, "names no target, as before Triton 3.0"),
            (#"{"name": "k"}"#, "is no metadata of Triton"), ("{}", "is no metadata of Triton"),
            (#"{"target": null}"#, "has a target that is no object"),
            (#"{"target": ["cuda", 90]}"#, "has a target that is no object"),
            (#"{"target": {"arch": 90}}"#, "names no backend of its target"),
            (#"{"target": {"backend": 1, "arch": 90}}"#, "names no backend of its target"),
            (#"{"target": {"backend": "xpu", "arch": 90}}"#, "names a target whose backend 'xpu' is not known"),
            (#"{"target": {"backend": "cuda"}}"#, "names no architecture of its target"),
            (#"{"target": {"backend": "cuda", "arch": true}}"#, "names no architecture of its target"),
            (#"{"target": {"backend": "cuda", "arch": 90.0}}"#, "names no architecture of its target"),
            (#"{"target": {"backend": "cuda", "arch": 1e400}}"#, "names no architecture of its target"),
            (#"{"target": {"backend": "cuda", "arch": {}}}"#, "names no architecture of its target"),
            (#"{"target": {"backend": "hip", "arch": 942}}"#, "names no architecture of its target"),
            (#"{"target": {"backend": "cuda", "arch": 0}}"#, "names the architecture '0', which is none of cuda"),
            (#"{"target": {"backend": "cuda", "arch": -90}}"#, "names the architecture '-90', which is none of cuda"),
            (#"{"target": {"backend": "cuda", "arch": 9000}}"#, "names the architecture '9000', which is none of cuda"),
            (
                #"{"target": {"backend": "cuda", "arch": "gfx942"}}"#,
                "names the architecture 'gfx942', which is none of cuda"
            ),
            (#"{"target": {"backend": "hip", "arch": "90"}}"#, "names the architecture '90', which is none of hip"),
            (#"{"target": {"backend": "hip", "arch": ""}}"#, "names the architecture '', which is none of hip"),
            (
                #"{"target": {"backend": "cuda", "arch": 90, "warp_size": 64}}"#,
                "names a warp size that sm_90 does not have"
            ),
            (
                #"{"target": {"backend": "hip", "arch": "gfx942", "warp_size": 32}}"#,
                "names a warp size that gfx942 does not have"
            ),
            (
                #"{"target": {"backend": "cuda", "arch": 90}, "arch": "sm80"}"#,
                "says that it is for sm_90 and was built for sm_80"
            ),
            (
                #"{"target": {"backend": "hip", "arch": "gfx942"}, "arch": "gfx950"}"#,
                "says that it is for gfx942 and was built for gfx950"
            ),
            (#"{"target": {"backend": "cuda", "arch": 80, "arch": 90}}"#, "has the key 'arch' twice"),
            (#"{"target": {}, "target": {"backend": "cuda", "arch": 90}}"#, "has the key 'target' twice"),
            ("", "is not JSON (byte 0)"), ("[]", "is not an object"), ("{", "is not JSON (byte 1)"),
        ])
    func problems(_ text: String, _ problem: String) {
        let description = Self.triton(text)
        #expect(description.problem == "its metadata \(problem)")
        #expect(description.targets.isEmpty)
        // The directory's name still says which entry it is.
        #expect(description.hash == TritonFile.hash(ofKey: Self.key.utf8))
    }

    @Test("what cannot be read is told from what says nothing")
    func unreadable() {
        let none = KernelDescription(.triton, directoryName: Array("mine".utf8), metadata: nil)
        #expect(none.problem == "its metadata is not there or too large to be read")
        #expect(none.hash == nil)
        let large = KernelDescription(
            .triton, directoryName: [], metadata: [UInt8](repeating: 0x20, count: 1 + (1 << 20)))
        #expect(large.problem == "its metadata is too large to be read")
    }

    @Test("what is kept of hostile metadata is short")
    func short() {
        let long = String(repeating: "x", count: 1 << 17)
        let description = Self.triton(
            #"{"name": "\#(long)", "hash": "\#(long)", "triton_version": "\#(long)", "target": {"backend": "\#(long)"}}"#
        )
        #expect(description.name?.count == 255)
        #expect(description.tritonVersion?.count == 255)
        #expect(description.backend?.count == 255)
        #expect(description.hash == TritonFile.hash(ofKey: Self.key.utf8))
        #expect((description.problem?.count ?? 0) < 200)
        // One character to Swift.
        let accents = "e" + String(repeating: "\u{301}", count: 1 << 17)
        #expect(Self.triton(#"{"name": "\#(accents)"}"#).name?.unicodeScalars.count == 255)
    }

    @Test("metadata that is cut anywhere has no target, or the right one")
    func truncated() throws {
        let bytes = try Fixture.bytes("cache/\(Self.key)/add_kernel.json")
        for count in 0..<bytes.count {
            let cut = KernelDescription(.triton, directoryName: [], metadata: Array(bytes.prefix(count)))
            #expect(cut.targets.isEmpty && cut.problem != nil, "\(count) bytes")
        }
    }

    @Test("metadata with any byte changed has no target, or one that can be")
    func changed() throws {
        let bytes = try Fixture.bytes("cache/\(Self.key)/add_kernel.json")
        for position in bytes.indices {
            for value in [UInt8(0), 0x22, 0x2c, 0x30, 0x7d, 0x80, 0xff] {
                var changed = bytes
                changed[position] = value
                let description = KernelDescription(.triton, directoryName: [], metadata: changed)
                #expect((description.target == nil) == (description.problem != nil))
            }
        }
    }

    @Test("any name of a directory is taken", arguments: KernelEntry.Kind.allCases)
    func anyName(_ kind: KernelEntry.Kind) {
        for byte in UInt8.min...UInt8.max {
            for count in [0, 1, 10, 52, 255] {
                let name = [UInt8](repeating: byte, count: count)
                let description = KernelDescription(kind, directoryName: name, metadata: nil)
                #expect(description.targets.isEmpty || kind == .flashinfer)
            }
        }
    }

    @Test(
        "the version of a NIM engine names its GPU",
        arguments: [
            ("0.11.1+ba20956e-l40sx1-bf16-throughput.1.1.0.17088220", "sm_89"),
            ("0.11.1%2B14957bf8-l40sx1-fp16-throughput-lora-lora.1.1.2.17578501", "sm_89"),
            ("0.11.1+14957bf8-h100x2-fp8-latency.1.1.2.17547653", "sm_90"),
            ("0.11.1+14957bf8-h100_nvlx4-fp8-latency.1.1.2", "sm_90"),
            ("0.11.1+14957bf8-a100x8-bf16-throughput", "sm_80"), ("0.11.1+14957bf8-a10gx4-bf16-throughput", "sm_86"),
            ("1.0-fp8-b200x8.1.1.2", "sm_100"),
            // Unsure.
            ("hf-8c22764-b", nil), ("0.11.1+14957bf8-bf16-throughput", nil), ("0.11.1-90x1-bf16", nil),
            ("0.11.1-xyzx1-bf16", nil), ("0.11.1-h100-bf16", nil), ("0.11.1-h100x-bf16", nil),
            ("0.11.1-h100x0-bf16", nil),
            ("0.11.1-h100x1-a100x1", nil), ("0.11.1-h100,a100x1", nil), ("0.11.1-mi300xx8-fp8", nil),
            ("mixtral-8x7b", nil), ("", nil),
        ] as [(String, String?)])
    func nim(_ version: String, _ architecture: String?) {
        let description = KernelDescription(.nim, directoryName: Array(version.utf8), metadata: nil)
        #expect(description.target?.architecture.description == architecture)
        #expect((description.problem == nil) == (architecture != nil))
    }

    @Test("a kernel of DeepGEMM has its name and digest from its directory")
    func deepGEMM() {
        let header = elf(osABI: 0x41, abi: 8, machine: 190, flags: 0x0600_640a)
        let description = KernelDescription(
            .deepgemm, directoryName: Array("kernel.smxx.layout.0f3a9c".utf8), metadata: header)
        #expect(description.name == "smxx.layout")
        #expect(description.hash == "0f3a9c")
        #expect(description.backend == "cuda")
        #expect(description.target?.architecture.description == "sm_100a")
        for count in 0..<64 {
            let cut = KernelDescription(.deepgemm, directoryName: [], metadata: Array(header.prefix(count)))
            #expect(cut.problem == "its metadata is no cubin of a known form")
        }
    }
}
