import MCFSCore
import Testing

@testable import GPUCompat

@Suite("NVIDIA's GPUs without NVML")
struct NVIDIAFilesTests {
    let tree = HostTree()

    static let version = """
        NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023
        GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)
        """

    /// As the driver prints it: blanks and tabs mixed.
    static let information = """
        Model: \t\t NVIDIA H100 80GB HBM3
        IRQ:   \t\t 210
        GPU UUID: \t GPU-5e7d1f60-4b0f-9a3c-7a2c-1e0a5d9b1c2d
        Video BIOS: \t 96.00.74.00.01
        Bus Type: \t PCIe
        DMA Size: \t 52 bits
        DMA Mask: \t 0xfffffffffffff
        Bus Location: \t 0000:3b:00.0
        Device Minor: \t 0
        GPU Firmware: \t 535.129.03
        GPU Excluded:\t No
        """

    private func find() -> GPUFindings { NVIDIAFiles(files: tree.files).find() }

    private func writeInformation(_ address: String, _ text: String) throws {
        try tree.write("proc/driver/nvidia/gpus/\(address)/information", text)
    }

    private func writeDevice(_ address: String, vendor: String = "0x10de", device: String, class: String) throws {
        for (name, value) in [("vendor", vendor), ("device", device), ("class", `class`)] {
            try tree.write("sys/bus/pci/devices/\(address)/\(name)", value + "\n")
        }
    }

    @Test("a host without them has none, and no problem")
    func nothing() throws {
        try writeDevice("0000:00:02.0", vendor: "0x8086", device: "0x46a6", class: "0x030000")
        #expect(find() == GPUFindings())
    }

    @Test("/proc/driver/nvidia gives model, UUID, driver; the tables give the architecture")
    func proc() throws {
        try tree.write("proc/driver/nvidia/version", Self.version)
        try writeInformation("0000:3b:00.0", Self.information)
        let findings = find()
        let gpu = try #require(findings.gpus.first)
        #expect(findings.gpus.count == 1 && findings.isComplete && findings.sources == [.proc])
        #expect(gpu.name == "NVIDIA H100 80GB HBM3" && gpu.target == "sm_90" && gpu.warpSize == 32)
        #expect(gpu.uuid == "GPU-5e7d1f60-4b0f-9a3c-7a2c-1e0a5d9b1c2d" && gpu.pci == "0000:3b:00.0")
        #expect(gpu.driver == "535.129.03" && gpu.cudaVersion == nil && gpu.memoryBytes == 0)
    }

    @Test(
        "the driver's version is the dotted number of the first line",
        arguments: [
            (version, "535.129.03"),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.126.18  Release Build  (dvs-builder)\n",
                "580.126.18"
            ),
            ("NVRM version: NVIDIA UNIX aarch64 Kernel Module  470.57 x", "470.57"),
            ("", nil), ("GCC version: gcc\n1.2.3", nil), ("NVRM version: x.y 1. .2 1..2 1.2.3.4 12345678.1", nil),
        ] as [(String, String?)])
    func driverVersion(text: String, version: String?) { #expect(NVIDIAFiles.driverVersion(text) == version) }

    @Test("a GPU that the driver excludes is none, and question marks are no UUID")
    func excluded() throws {
        try tree.write("proc/driver/nvidia/version", Self.version)
        try writeInformation(
            "0000:3b:00.0", Self.information.replacing("Excluded:\t No", with: "Excluded:\t Yes"))
        try writeInformation(
            "0000:5e:00.0", "Model: NVIDIA L4\nGPU UUID: \t GPU-????????-????-????-????-????????????\n")
        let gpus = find().gpus
        #expect(gpus.map(\.pci) == ["0000:5e:00.0"])
        #expect(gpus.map(\.uuid) == [nil])
        #expect(gpus.map(\.target) == ["sm_89"])
    }

    @Test("a model that no table has is known by its PCI device; where that fails, it is a problem")
    func unknownModel() throws {
        try tree.write("proc/driver/nvidia/version", Self.version)
        try writeInformation("0000:01:00.0", "Model: NVIDIA PG506-232\n")
        try writeDevice("0000:01:00.0", device: "0x20b6", class: "0x030200")
        try writeInformation("0000:02:00.0", "Model: NVIDIA Whatever\n")
        try writeInformation("0000:03:00.0", "\u{0}\u{1}:::\n\n: x\nModel:\n")
        let findings = find()
        #expect(findings.gpus.map(\.name) == ["NVIDIA PG506-232"])
        #expect(findings.gpus.map(\.target) == ["sm_80"])
        #expect(!findings.isComplete)
        #expect(findings.problems.count == 2)
    }

    @Test(
        "without a driver the PCI bus names the chip",
        arguments: [
            ("0x1db6", "sm_70", "V100"), ("0x1eb8", "sm_75", "T4"), ("0x20b2", "sm_80", "A100"),
            ("0x2204", "sm_86", "GeForce RTX 3090"), ("0x2330", "sm_90", "H100"), ("0x26b5", "sm_89", "L40"),
            ("0x2901", "sm_100", "B200"), ("0x2b85", "sm_120", "GeForce RTX 5090"), ("0x2187", "sm_75", "NVIDIA GPU"),
        ])
    func bus(device: String, target: String, name: String) throws {
        try writeDevice("0000:01:00.0", device: device, class: "0x030200")
        try writeDevice("0000:01:00.1", device: "0x10ef", class: "0x040300")
        try writeDevice("0000:02:00.0", device: "0xffff", class: "0x030000")
        let findings = find()
        #expect(findings.gpus.map(\.target) == [target])
        #expect(findings.gpus.map(\.name) == [name])
        #expect(findings.sources == [.pci])
        #expect(findings.problems == ["there are NVIDIA GPUs, but their driver is not loaded"])
        // Nothing runs on the other one either.
        #expect(findings.isComplete)
    }

    @Test("hostile values on the bus are no crash")
    func hostileBus() throws {
        for (index, value) in ["", "10de", "0x", "0x-10de", "0xffffffffffffffffffff", "0x10dé", "\u{0}"].enumerated() {
            try writeDevice("0000:0\(index):00.0", vendor: value, device: value, class: value)
            try writeDevice("0000:1\(index):00.0", device: value, class: "0x030000")
            try writeDevice("0000:2\(index):00.0", device: "0x2330", class: value)
        }
        #expect(find() == GPUFindings())
    }
}
