import Foundation
import Glibc
import MCFSCore
import Testing

@testable import GPUCompat

@Suite("AMD's GPUs in sysfs")
struct KFDTopologyTests {
    let tree = HostTree()

    private func find(_ variables: [String: String] = [:]) -> GPUFindings {
        KFDTopology(files: tree.files, environment: Environment(variables)).find()
    }

    @Test("a host without KFD has no AMD GPU and no problem")
    func nothing() { #expect(find() == GPUFindings()) }

    @Test("an MI210 is found with all that sysfs says; the CPU is none")
    func mi210() throws {
        try tree.writeNode(0, KFDSample.cpu)
        try tree.writeNode(3, KFDSample.mi210)
        try tree.write("\(HostTree.nodes)/3/name", "aldebaran\n")
        try tree.write(
            "\(HostTree.nodes)/3/mem_banks/0/properties", "heap_type 1\nsize_in_bytes 68702699520\nflags 0\n")
        try tree.write("\(HostTree.nodes)/3/mem_banks/1/properties", "heap_type 4\nsize_in_bytes 65536\n")
        try tree.write("sys/module/amdgpu/version", "6.10.5\n")
        let findings = find()
        let gpu = try #require(findings.gpus.first)
        #expect(findings.gpus.count == 1 && findings.isComplete && findings.problems.isEmpty)
        #expect(findings.sources == [.kfd])
        #expect(gpu.vendor == .amd && gpu.name == "AMD Instinct MI210" && gpu.target == "gfx90a")
        // SRAM has error correction; XNACK is the process's own.
        #expect(gpu.architecture.description == "gfx90a:sramecc+")
        #expect(gpu.warpSize == 64 && gpu.memoryBytes == 68_702_699_520)
        #expect(gpu.uuid == "GPU-51276ac12ce05db3" && gpu.pci == "0000:43:00.0" && gpu.driver == "6.10.5")
    }

    @Test("what the card itself says is preferred: its product name and its memory")
    func card() throws {
        try tree.writeNode(1, KFDSample.mi300x)
        try tree.write("\(HostTree.nodes)/1/mem_banks/0/properties", "heap_type 1\nsize_in_bytes 24000\n")
        try tree.write("sys/class/drm/renderD128/device/product_name", "AMD Instinct MI300X OAM\n")
        try tree.write("sys/class/drm/renderD128/device/mem_info_vram_total", "206141652992\n")
        let gpu = try #require(find().gpus.first)
        #expect(gpu.name == "AMD Instinct MI300X OAM" && gpu.memoryBytes == 206_141_652_992)
    }

    @Test("the eight partitions of a card are one GPU, two cards are two")
    func partitions() throws {
        try tree.writeNode(0, KFDSample.cpu)
        for partition in 0..<8 {
            let place = ["location_id": "\(1280 + partition)", "drm_render_minor": "\(128 + partition)"]
            try tree.writeNode(2 + partition, KFDSample.mi300x, place)
            try tree.write(
                "\(HostTree.nodes)/\(2 + partition)/mem_banks/0/properties",
                "heap_type 1\nsize_in_bytes \(1000 + partition)\n")
        }
        try tree.writeNode(10, KFDSample.mi300x, ["location_id": "9984", "unique_id": "7"])
        let gpus = find().gpus
        #expect(gpus.map(\.pci) == ["0000:05:00.0", "0000:27:00.0"])
        #expect(gpus.map(\.uuid) == ["GPU-e3aa140f9a5f9e31", "GPU-0000000000000007"])
        #expect(gpus.map(\.memoryBytes) == [1007, 0])
    }

    @Test("cards without a unique_id are not taken for one")
    func noUniqueID() throws {
        for node in 1...3 { try tree.writeNode(node, KFDSample.mi210, ["unique_id": node == 1 ? nil : "0"]) }
        let gpus = find().gpus
        #expect(gpus.count == 3)
        #expect(gpus.allSatisfy { $0.uuid == nil })
    }

    @Test("nodes are taken by number: 10 comes after 9")
    func order() throws {
        for node in 8...11 {
            try tree.writeNode(node, KFDSample.mi210, ["unique_id": "\(node)", "location_id": "\(node << 8)"])
        }
        #expect(find().gpus.map(\.pci) == ["0000:08:00.0", "0000:09:00.0", "0000:0a:00.0", "0000:0b:00.0"])
    }

    @Test("a kernel without gfx_target_version: the device tells the processor, and nothing SRAMECC")
    func oldKernel() throws {
        try tree.writeNode(1, KFDSample.vega10)
        try tree.writeNode(2, KFDSample.vega10, ["device_id": "26273", "unique_id": "2"])
        let gpus = find().gpus
        #expect(gpus.map(\.architecture.description) == ["gfx900", "gfx906"])
        #expect(gpus.map(\.pci) == ["0000:19:00.0", "0000:19:00.0"])
    }

    @Test(
        "gfx_target_version names the processor",
        arguments: [
            ("90000", "gfx900"), ("90010", "gfx90a"), ("90012", "gfx90c"), ("90402", "gfx942"), ("90500", "gfx950"),
            ("100100", "gfx1010"), ("100300", "gfx1030"), ("110000", "gfx1100"), ("110501", "gfx1151"),
            ("120001", "gfx1201"), ("130100", "gfx1310"), ("80003", "gfx803"),
        ])
    func targetVersion(version: String, processor: String) throws {
        try tree.writeNode(1, KFDSample.mi210, ["gfx_target_version": version, "device_id": "1"])
        let gpu = try #require(find().gpus.first)
        #expect(gpu.target == processor)
        #expect(gpu.warpSize == (processor.count == 6 ? 64 : 32))
    }

    @Test(
        "a GPU of which nobody knows what it is, is a problem: nothing may be hidden then",
        arguments: [
            ["gfx_target_version": "0", "device_id": "1"], ["gfx_target_version": nil, "device_id": "1"],
            ["gfx_target_version": nil, "device_id": nil], ["gfx_target_version": "91600", "device_id": "1"],
            ["gfx_target_version": "90099", "device_id": "1"], ["gfx_target_version": "-90010", "device_id": "1"],
            ["gfx_target_version": "18446744073709551615", "device_id": "18446744073709551615"],
            ["gfx_target_version": "99999999999999999999", "device_id": "1"],
        ] as [[String: String?]])
    func unknownProcessor(changes: [String: String?]) throws {
        try tree.writeNode(1, KFDSample.mi210, changes)
        try tree.writeNode(2, KFDSample.mi300x)
        let findings = find()
        #expect(findings.gpus.map(\.target) == ["gfx942"])
        #expect(!findings.isComplete)
        #expect(findings.problems.count == 1 && findings.problems[0].contains("name it with --gpu"))
    }

    /// A file that nobody may read, root neither: it has no method to be read with.
    static let writeOnly = "/sys/bus/platform/drivers_probe"

    @Test(
        "nodes that this process may not read are not its GPUs; where all are such, that is said",
        .enabled(if: open(writeOnly, O_RDONLY) == -1 && errno == EACCES))
    func denied() throws {
        try tree.writeNode(0, KFDSample.cpu)
        for node in 1...2 {
            let folder = "\(tree.path)/\(HostTree.nodes)/\(node)"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            try FileManager.default.createSymbolicLink(
                atPath: "\(folder)/properties", withDestinationPath: Self.writeOnly)
        }
        var findings = find()
        #expect(findings.gpus.isEmpty && findings.isComplete)
        #expect(findings.problems.count == 1 && findings.problems[0].contains("may not use them"))

        try tree.writeNode(3, KFDSample.mi210)
        findings = find()
        #expect(findings.gpus.count == 1 && findings.problems.isEmpty && findings.isComplete)
    }

    @Test("files that are missing, too long, a folder or a pipe are no crash and no wait", .timeLimit(.minutes(5)))
    func oddFiles() throws {
        let folder = "\(tree.path)/\(HostTree.nodes)"
        for node in ["1", "2/properties", "3", "x", "-1", "99999999999999999999"] {
            try FileManager.default.createDirectory(atPath: "\(folder)/\(node)", withIntermediateDirectories: true)
        }
        try #require(mkfifo("\(folder)/3/properties", 0o600) == 0)
        try tree.write("\(HostTree.nodes)/4/properties", Data(repeating: 0x61, count: SystemFiles.bytesMax + 1))
        try tree.write("\(HostTree.nodes)/5/properties", Data((0...255).map { UInt8($0) }))
        try tree.writeNode(6, KFDSample.mi210)
        let findings = find()
        #expect(findings.gpus.map(\.target) == ["gfx90a"])
        #expect(!findings.isComplete)
        #expect(findings.problems.count == 3)
    }

    @Test("numbers at their limits are no overflow")
    func limits() throws {
        let max = "18446744073709551615"
        let changes = [
            "location_id": max, "domain": max, "drm_render_minor": max, "capability": max, "simd_count": max,
        ]
        try tree.writeNode(1, KFDSample.mi210, changes)
        for bank in 0..<3 {
            try tree.write(
                "\(HostTree.nodes)/1/mem_banks/\(bank)/properties", "heap_type 1\nsize_in_bytes \(max)\n")
        }
        let gpu = try #require(find().gpus.first)
        #expect(gpu.pci == nil && gpu.memoryBytes == .max)
    }

    @Test("names are shown without what would steer a terminal")
    func hostileName() throws {
        try tree.writeNode(1, KFDSample.mi210)
        try tree.write(
            "sys/class/drm/renderD129/device/product_name",
            "\u{1b}]0;x\u{7}MI\u{202e}210\r\n\(String(repeating: "A", count: 9999))")
        let name = try #require(find().gpus.first).name
        #expect(name.hasPrefix("]0;xMI210AAA") && name.unicodeScalars.count <= 128)
    }

    @Test(
        "HSA_XNACK sets XNACK, where the processor has it",
        arguments: [
            ("1", "gfx90a:sramecc+:xnack+"), ("0", "gfx90a:sramecc+:xnack-"), ("yes", "gfx90a:sramecc+"),
        ])
    func xnack(value: String, architecture: String) throws {
        try tree.writeNode(1, KFDSample.mi210)
        try tree.writeNode(2, KFDSample.mi210, ["gfx_target_version": "110000", "unique_id": "2"])
        let gpus = find(["HSA_XNACK": value]).gpus
        #expect(gpus.map(\.architecture.description) == [architecture, "gfx1100"])
    }

    @Test("without the bit in capability SRAMECC is off, as AMD's runtime has it")
    func sramecc() throws {
        try tree.writeNode(1, KFDSample.mi210, ["capability": "8832"])
        try tree.writeNode(2, KFDSample.mi210, ["capability": nil, "unique_id": "2"])
        #expect(find().gpus.map(\.architecture.description) == ["gfx90a:sramecc-", "gfx90a"])
    }

    @Test(
        "HSA_OVERRIDE_GFX_VERSION adds a second name, for one node with its number",
        arguments: [
            (["HSA_OVERRIDE_GFX_VERSION": "10.3.0"], ["gfx1030", "gfx1030"]),
            (["HSA_OVERRIDE_GFX_VERSION_1": "11.0.0"], ["gfx1100", nil]),
            (
                ["HSA_OVERRIDE_GFX_VERSION_2": "9.0.10", "HSA_OVERRIDE_GFX_VERSION": "11.0.2"],
                ["gfx1102", "gfx90a:sramecc+"]
            ),
            (["HSA_OVERRIDE_GFX_VERSION": "10.3.1"], [nil, nil]),
            (["HSA_OVERRIDE_GFX_VERSION": "10.3"], [nil, nil]),
            (["HSA_OVERRIDE_GFX_VERSION": "10.-3.16"], [nil, nil]),
            (["HSA_OVERRIDE_GFX_VERSION": "99999999999999999999.0.0"], [nil, nil]),
        ] as [([String: String], [String?])])
    func override(variables: [String: String], names: [String?]) throws {
        try tree.writeNode(0, KFDSample.cpu)
        // A node without a file does not count.
        try FileManager.default.createDirectory(
            atPath: "\(tree.path)/\(HostTree.nodes)/1", withIntermediateDirectories: true)
        for node in 2...3 {
            try tree.writeNode(node, KFDSample.mi210, ["gfx_target_version": "100301", "unique_id": "\(node)"])
        }
        let gpus = find(variables).gpus
        #expect(gpus.map(\.target) == ["gfx1031", "gfx1031"])
        #expect(gpus.map(\.overriddenArchitecture?.description) == names)
    }
}
