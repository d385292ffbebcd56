/// NVIDIA's GPUs by PCI device, for hosts where the driver does not say more.
enum NVIDIADevices {
    static func architecture(_ device: Int) -> CUDAArchitecture? {
        chips.first { $0.devices.contains(device) }.map { CUDAArchitecture(number: $0.number) }
    }

    static func name(_ device: Int) -> String? { names[device] }

    /// pci.ids of 2023-04; GB100 and GB20x from the list of supported GPUs of NVIDIA's open kernel modules.
    private static let chips: [(devices: ClosedRange<Int>, number: Int)] = [
        (0x1d81...0x1dff, 70),  // GV100
        (0x1e02...0x1fff, 75), (0x2180...0x21ff, 75),  // TU10x, TU11x
        (0x2080...0x20ff, 80),  // GA100
        (0x2200...0x22ff, 86), (0x2400...0x25ff, 86),  // GA10x
        (0x2300...0x23ff, 90),  // GH100
        (0x2600...0x28ff, 89),  // AD10x
        (0x2900...0x29ff, 100),  // GB100
        (0x2b80...0x2dff, 120),  // GB20x
    ]

    private static let names: [Int: String] = [
        0x1db1: "V100", 0x1db4: "V100", 0x1db5: "V100", 0x1db6: "V100", 0x1eb8: "T4",
        0x20b0: "A100", 0x20b1: "A100", 0x20b2: "A100", 0x20b5: "A100", 0x20f1: "A100", 0x20b7: "A30",
        0x2204: "GeForce RTX 3090", 0x2235: "A40", 0x2236: "A10", 0x2237: "A10G",
        0x2330: "H100", 0x2331: "H100", 0x2322: "H800", 0x2324: "H800", 0x2335: "H200", 0x2342: "GH200",
        0x2684: "GeForce RTX 4090", 0x26b5: "L40", 0x26b8: "L40G", 0x26b9: "L40S", 0x27b8: "L4",
        0x2901: "B200", 0x2941: "GB200", 0x2b85: "GeForce RTX 5090",
    ]
}
