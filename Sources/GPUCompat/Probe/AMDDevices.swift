/// AMD's GPUs by PCI device.
enum AMDDevices {
    /// - Parameter device: as KFD prints it.
    static func device(_ device: UInt64?) -> (name: String, processor: String)? {
        rows.first { row in device.map { row.devices.contains($0) } ?? false }.map { ($0.name, $0.processor) }
    }

    /// Names: amd-enterprise-ai/aim-build, `gpu_detector.py`. The first rows, for drivers that do not name a processor:
    /// torvalds/linux, `drivers/gpu/drm/amd/amdkfd/kfd_device.c` of 4.20.
    private static let rows: [(devices: Set<UInt64>, name: String, processor: String)] = [
        ([0x6860, 0x6861, 0x6862, 0x6863, 0x6864, 0x6867, 0x6868, 0x686c, 0x687f], "Vega 10", "gfx900"),
        ([0x66a0, 0x66a1, 0x66a2, 0x66a3, 0x66a4, 0x66a7, 0x66af], "Vega 20", "gfx906"),
        ([0x738c, 0x738e], "AMD Instinct MI100", "gfx908"),
        ([0x740f, 0x7410], "AMD Instinct MI210", "gfx90a"),
        ([0x7408, 0x740c], "AMD Instinct MI250X", "gfx90a"),
        ([0x74a0], "AMD Instinct MI300A", "gfx942"),
        ([0x74a1, 0x74a9, 0x74b5, 0x74bd], "AMD Instinct MI300X", "gfx942"),
        ([0x74a2, 0x74a8, 0x74b6], "AMD Instinct MI308X", "gfx942"),
        ([0x74a5, 0x74b9], "AMD Instinct MI325X", "gfx942"),
        ([0x75a0, 0x75b0], "AMD Instinct MI350X", "gfx950"),
        ([0x75a3, 0x75b3], "AMD Instinct MI355X", "gfx950"),
        ([0x73a1, 0x73ae], "AMD Radeon PRO V620", "gfx1030"),
        ([0x73a3], "AMD Radeon PRO W6800", "gfx1030"),
        ([0x73bf], "AMD Radeon RX 6800", "gfx1030"),
        ([0x73af], "AMD Radeon RX 6900", "gfx1030"),
        ([0x744c], "AMD Radeon RX 7900", "gfx1100"),
        ([0x7449, 0x745e], "AMD Radeon PRO W7800", "gfx1100"),
        ([0x7448, 0x744a], "AMD Radeon PRO W7900", "gfx1100"),
        ([0x7460, 0x7461], "AMD Radeon PRO V710", "gfx1101"),
        ([0x7550], "AMD Radeon RX 9070", "gfx1201"),
    ]
}
