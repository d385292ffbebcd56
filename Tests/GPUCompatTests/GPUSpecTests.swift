import MCFSCore
import Testing

@testable import GPUCompat

@Suite("GPUs by name")
struct GPUSpecTests {
    @Test(
        "a spec is a target or a product, in any case",
        arguments: [
            ("sm_90", "sm_90", "sm_90"), ("sm_90a", "sm_90a", "sm_90a"), ("9.0", "9.0", "sm_90"),
            ("gfx942", "gfx942", "gfx942"), ("gfx90a:xnack-", "gfx90a:xnack-", "gfx90a:xnack-"),
            ("H100", "H100", "sm_90"), ("h100", "H100", "sm_90"), ("NVIDIA H100", "H100", "sm_90"),
            ("MI300X", "MI300X", "gfx942"), ("amd instinct mi300x", "MI300X", "gfx942"),
            ("rtx 4090", "RTX 4090", "sm_89"), ("RTX4090", "RTX 4090", "sm_89"),
            ("GeForce RTX 4090", "RTX 4090", "sm_89"), ("nvidia geforce rtx5090", "RTX 5090", "sm_120"),
            ("RTX 6000 Ada", "RTX 6000 Ada", "sm_89"), ("rtx-a6000", "RTX A6000", "sm_86"),
            ("GB200", "GB200", "sm_100"), ("gh200", "GH200", "sm_90"), ("l40s", "L40S", "sm_89"),
            (" radeon vii ", "Radeon VII", "gfx906"), ("RX 7900 XTX", "RX 7900", "gfx1100"),
        ])
    func spec(text: String, name: String, architecture: String) throws {
        let gpus = try GPUSpec.gpus(from: [text])
        #expect(gpus.map(\.name) == [name])
        #expect(gpus.map(\.architecture.description) == [architecture])
        #expect(gpus.map(\.isAssumed) == [true])
        #expect(gpus[0].vendor == (architecture.hasPrefix("sm") ? .nvidia : .amd))
        #expect(gpus[0].warpSize == (gpus[0].vendor == .nvidia || architecture.hasPrefix("gfx11") ? 32 : 64))
    }

    /// Names as NVML, the driver's files, and AMD's sysfs print them.
    @Test(
        "the longest product name in a driver's name counts",
        arguments: [
            ("NVIDIA A100-SXM4-80GB", "sm_80"), ("NVIDIA A100 80GB PCIe", "sm_80"), ("NVIDIA A30", "sm_80"),
            ("NVIDIA H100 80GB HBM3", "sm_90"), ("NVIDIA H100 NVL", "sm_90"), ("NVIDIA H200", "sm_90"),
            ("NVIDIA GH200 480GB", "sm_90"), ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "sm_90"), ("NVIDIA H20", "sm_90"),
            ("NVIDIA B200", "sm_100"), ("NVIDIA GB200", "sm_100"), ("NVIDIA B300 SXM6 AC", "sm_103"),
            ("NVIDIA GB300", "sm_103"), ("NVIDIA GB10", "sm_121"),
            ("NVIDIA L40S", "sm_89"), ("NVIDIA L40", "sm_89"), ("NVIDIA L4", "sm_89"), ("NVIDIA A40-48Q", "sm_86"),
            ("NVIDIA A10G", "sm_86"), ("NVIDIA A10", "sm_86"), ("NVIDIA A2", "sm_86"), ("NVIDIA RTX A6000", "sm_86"),
            ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "sm_120"),
            ("NVIDIA RTX 6000 Ada Generation", "sm_89"), ("NVIDIA RTX 4000 SFF Ada Generation", "sm_89"),
            ("NVIDIA GeForce RTX 4090", "sm_89"), ("NVIDIA GeForce RTX 3080 Ti Laptop GPU", "sm_86"),
            ("NVIDIA GeForce RTX 5070 Ti", "sm_120"), ("NVIDIA GeForce GTX 1660 SUPER", "sm_75"),
            ("Quadro RTX 6000", "sm_75"), ("Tesla T4", "sm_75"), ("GRID T4-16Q", "sm_75"),
            ("Tesla V100-SXM2-16GB", "sm_70"), ("Tesla P100-PCIE-16GB", "sm_60"), ("Tesla P40", "sm_61"),
            ("NVIDIA Thor", "sm_110"), ("Orin (nvgpu)", "sm_87"),
            ("AMD Instinct MI300X OAM", "gfx942"), ("AMD Instinct MI250X / MI250", "gfx90a"),
            ("AMD Radeon RX 9070 XT", "gfx1201"), ("AMD Radeon PRO W7900 Dual Slot", "gfx1100"),
            ("AMD Radeon AI PRO R9700", "gfx1201"), ("Radeon RX Vega 64", "gfx900"),
        ])
    func driverName(name: String, architecture: String) {
        #expect(Product.named(name)?.architecture.description == architecture)
    }

    @Test(
        "a name that is only like a product's is none",
        arguments: [
            "NVIDIA A1000", "NVIDIA A100X1", "H1000", "RTX 6000", "4090", "L400", "MI300", "NVIDIA", "AMD", "Instinct",
            "GeForce MX450", "", " ", "-", "ＨＮ", "null",
        ])
    func unknownName(name: String) { #expect(Product.named(name) == nil) }

    @Test("several are separated by commas, or given one by one")
    func several() throws {
        let gpus = try GPUSpec.gpus(from: ["sm_90, MI300X", "rtx 4090"])
        #expect(gpus.map(\.target) == ["sm_90", "gfx942", "sm_89"])
        #expect(gpus.map(\.index) == [0, 1, 2])
    }

    @Test(
        "an unknown one is refused with what is accepted and what is near",
        arguments: [
            (["H1000"], "H100"), (["4090"], "RTX 4090"), (["rtx 6000"], "Quadro RTX 6000, RTX 6000 Ada, RTX PRO 6000"),
            (["MI300"], "MI300A, MI300X"), (["sm_90", "RTX 4091"], "RTX 4090"),
        ])
    func near(specs: [String], near: String) {
        let error = #expect(throws: MCFSError.self) { try GPUSpec.gpus(from: specs) }
        #expect(error?.code == .usage)
        #expect(error?.message.contains("is no GPU that mcfs knows; give a target such as sm_90") == true)
        #expect(error?.message.contains("; near to it: \(near)") == true, "\(error?.message ?? "")")
    }

    @Test(
        "empty, hostile and generic ones are refused",
        arguments: [
            [], [""], [","], ["sm_90,"], ["sm_90,,H100"], ["\u{1b}[2J"], [String(repeating: "H", count: 100_000)],
            ["gfx11-generic"], ["sm_99999"],
        ])
    func refused(specs: [String]) {
        let error = #expect(throws: MCFSError.self) { try GPUSpec.gpus(from: specs) }
        #expect(error?.code == .usage)
        #expect((error?.message.utf8.count ?? 0) < 400)
        #expect(error?.message.contains("\u{1b}") == false)
    }
}
