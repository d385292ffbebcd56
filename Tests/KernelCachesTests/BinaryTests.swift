import Foundation
import GPUCompat
import Testing

@testable import KernelCaches

@Suite("Headers of binaries")
struct BinaryTests {
    /// Of Triton's compilers for an architecture: `a` from 90 on, but not in the header that ptxas 13 writes.
    private static func suffix(_ row: Fixture.Row) -> String { (Int(row.arch) ?? 0) >= 90 ? "a" : "" }

    @Test("each binary of the fixture is identified as its index says", arguments: Fixture.kernels)
    func fixture(_ row: Fixture.Row) throws {
        let file = try #require(row.files.first { TritonFile.isBinary($0.utf8) })
        let bytes = try Fixture.bytes("\(row.directory)/\(file)")
        let header = try #require(ELFHeader(bytes))
        let found = String(
            format: "osabi=0x%02x,abi=%d,machine=%d,e_flags=0x%08x", Int(header.osABI), Int(header.abiVersion),
            Int(header.machine), header.flags)
        #expect(found == row.elf)

        let whole = try #require(KernelTarget(binary: bytes))
        let beginning = try #require(KernelTarget(binary: Array(bytes.prefix(ELFHeader.byteCount))))
        if row.backend == "cuda" {
            #expect(whole.architecture.description == "sm_\(row.arch)\(Self.suffix(row))")
            #expect(whole.form == .cubin)
            // The header alone tells the number, and the suffix unless ptxas 13 wrote it.
            let isMarked = row.tritonVersion != "3.9.0"
            #expect(
                beginning.architecture.description == (isMarked ? whole.architecture.description : "sm_\(row.arch)"))
        } else {
            #expect(whole == beginning)
            // Triton builds for any setting.
            #expect(whole.architecture.description == row.arch)
            #expect(whole.form == .codeObject(genericVersion: nil))
        }
    }

    @Test(
        "what ptxas 13 leaves out of the header is in its note", arguments: ["sm_100", "sm_100f", "sm_100a", "sm_80"])
    func note(_ name: String) throws {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Fixtures/cubins/\(name).cubin")
        let bytes = Array(try Data(contentsOf: file))
        let architecture = try #require(CUDAArchitecture(name))
        let whole = try #require(CubinHeader(bytes))
        #expect(whole.architecture == architecture)
        #expect(whole.suffix == architecture.suffix)
        let header = try #require(CubinHeader(Array(bytes.prefix(64))))
        #expect(header.number == architecture.number)
        #expect(header.suffix == nil)
        // Cut anywhere, it tells what it tells, or nothing.
        for count in bytes.indices {
            guard let cut = CubinHeader(Array(bytes.prefix(count))) else {
                #expect(count < 64)
                continue
            }
            #expect(cut.number == architecture.number)
            #expect(cut.suffix == nil || cut.suffix == architecture.suffix)
        }
    }

    /// What ptxas 12.4 to 13.5 wrote.
    @Test(
        "flags of cubins",
        arguments: [
            (0x33, 7, 0x004b_054b, "sm_75", true), (0x33, 7, 0x0050_0550, "sm_80", true),
            (0x33, 7, 0x0056_0556, "sm_86", true), (0x33, 7, 0x0059_0559, "sm_89", true),
            (0x33, 7, 0x005a_055a, "sm_90", true), (0x33, 7, 0x005a_0d5a, "sm_90a", true),
            (0x41, 8, 0x0900_640a, "sm_100a", true), (0x41, 8, 0x0900_670a, "sm_103a", true),
            (0x41, 8, 0x0900_780a, "sm_120a", true), (0x41, 8, 0x0900_790a, "sm_121a", true),
            (0x41, 8, 0x0900_5a04, "sm_90", false), (0x41, 8, 0x0600_5004, "sm_80", false),
            (0x41, 8, 0x0600_6402, "sm_100", false),
        ] as [(UInt8, UInt8, UInt32, String, Bool)])
    func cubins(_ osABI: UInt8, _ abi: UInt8, _ flags: UInt32, _ name: String, _ isSuffixKnown: Bool) throws {
        let header = try #require(CubinHeader(elf(osABI: osABI, abi: abi, machine: 190, flags: flags)))
        #expect(header.architecture.description == name)
        #expect((header.suffix != nil) == isSuffixKnown)
    }

    @Test(
        "flags of code objects",
        arguments: [
            (3, 0x54c, "gfx942", nil), (3, 0x53f, "gfx90a", nil), (3, 0x530, "gfx908", nil), (3, 0x54f, "gfx950", nil),
            (3, 0x041, "gfx1100", nil), (3, 0x04e, "gfx1201", nil), (2, 0x54c, "gfx942", nil),
            (2, 0x63f, "gfx90a:xnack-", nil), (3, 0x73f, "gfx90a:xnack+", nil),
            (4, 0x93f, "gfx90a:sramecc-", nil), (4, 0xf3f, "gfx90a:sramecc+:xnack+", nil),
            (1, 0x33f, "gfx90a:sramecc+:xnack+", nil), (1, 0x03f, "gfx90a", nil),
            (4, 0x0100_0054, "gfx11-generic", 1), (4, 0x0200_055f, "gfx9-4-generic", 2),
            (3, 0x0100_0041, "gfx1100", nil),
        ] as [(UInt8, UInt32, String, Int?)])
    func codeObjects(_ abi: UInt8, _ flags: UInt32, _ name: String, _ version: Int?) throws {
        let object = try #require(CodeObjectHeader(elf(osABI: 64, abi: abi, machine: 224, flags: flags)))
        #expect(object.architecture.description == name)
        #expect(object.genericVersion == version)
        // Each of them is a name that metadata may have, too.
        #expect(Architecture(name) == .gfx(object.architecture))
    }

    @Test("every processor of LLVM's table is an architecture")
    func processors() {
        var names: Set<String> = []
        for flags in UInt32(0)...255 {
            guard let object = CodeObjectHeader(elf(osABI: 64, abi: 3, machine: 224, flags: flags)) else { continue }
            names.insert(object.architecture.processor)
            #expect(GFXArchitecture(object.architecture.processor) != nil)
        }
        #expect(names.count == 52)
    }

    @Test(
        "other files are none",
        arguments: [
            (0x41, 9, 190, 0x0900_640a), (0x33, 8, 190, 0x0050_0550), (0, 0, 62, 0), (64, 0, 224, 0x54c),
            (64, 5, 224, 0x54c), (0, 3, 224, 0x54c), (64, 3, 224, 0x500), (0x41, 8, 190, 0),
        ] as [(UInt8, UInt8, UInt16, UInt32)])
    func others(_ osABI: UInt8, _ abi: UInt8, _ machine: UInt16, _ flags: UInt32) {
        #expect(KernelTarget(binary: elf(osABI: osABI, abi: abi, machine: machine, flags: flags)) == nil)
    }

    @Test("sections that lie are not followed")
    func sections() throws {
        var bytes = try Fixture.bytes(
            "versions/3.9.0/cache/OXZD4D6XFSRMYGXOJNI5R7CEKVJZN6FIQTE5U546IOO5NX6CXXCQ/add_kernel.cubin")
        #expect(CubinHeader(bytes)?.suffix == .a)
        for position in Array(40..<64) + Array(8384..<(8384 + 20 * 64)) {
            let kept = bytes[position]
            for value in [UInt8(0), 0x7f, 0x80, 0xff] {
                bytes[position] = value
                let header = CubinHeader(bytes)
                #expect(header == nil || header?.suffix == nil || header?.suffix == .a || position < 52)
            }
            bytes[position] = kept
        }
    }

    @Test(
        "the PTX of the fixture says what it was compiled for",
        arguments: Fixture.kernels.filter { $0.backend == "cuda" })
    func ptx(_ row: Fixture.Row) throws {
        let bytes = try Fixture.bytes("\(row.directory)/\(row.kernel).ptx")
        let header = try #require(PTXHeader(bytes))
        #expect(header.architecture.description == "sm_\(row.arch)\(Self.suffix(row))")
        let arch = Int(row.arch) ?? 0
        let isa =
            switch row.tritonVersion {
            case "3.0.0", "3.2.0", "3.3.1": "8.4"
            case "3.8.0": "8.8"
            case "3.9.0": arch < 90 ? "8.8" : "9.4"
            default: arch < 100 ? "8.7" : "8.8"
            }
        #expect(header.version.description == isa)
        #expect(PTXHeader(Array(bytes.prefix(PTXHeader.byteCount))) == header)
        for count in 0..<200 {
            let cut = PTXHeader(Array(bytes.prefix(count)))
            #expect(cut == nil || cut == header, "\(count) bytes")
        }
    }

    @Test(
        "lines of PTX",
        arguments: [
            (".version 8.7\n.target sm_90a\n", "8.7 sm_90a"),
            ("\t.version\t8.7\r\n .target  sm_90, debug\r\n", "8.7 sm_90"),
            (".target sm_90\n.version 7.0\n", "7.0 sm_90"), (".version 8.7\n.target sm_90", nil),
            ("// .target sm_80\n// .version 7.0\n.version 8.7\n.target sm_90\n", "8.7 sm_90"),
            (".version 8.7\n.target texmode_independent\n", nil), (".version 8\n.target sm_90\n", nil), ("", nil),
            (".version 8.7\n.target sm_\n", nil), (".target\n.version\n", nil),
        ] as [(String, String?)])
    func ptxLines(_ text: String, _ expected: String?) {
        let header = PTXHeader(Array(text.utf8))
        #expect(header.map { "\($0.version) \($0.architecture)" } == expected)
    }
}
