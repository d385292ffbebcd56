package import GPUCompat

/// What an AMD code object (`.hsaco`) was built for: ELF machine 224 (EM_AMDGPU), OSABI 64, versions 3 to 6.
///
/// Source: LLVM's AMDGPUUsage.rst, ELF Code Object, Header.
package struct CodeObjectHeader: Hashable, Sendable {
    /// With the features that it was built for; nil is any.
    package let architecture: GFXArchitecture
    /// Of a generic processor's, in version 6 and later; nil else.
    package let genericVersion: Int?

    package static let machine: UInt16 = 224

    /// - Parameter bytes: the first 64 bytes or more.
    /// - Returns: nil for anything but the beginning of a code object of a known version and processor.
    package init?(_ bytes: [UInt8]) {
        guard let elf = ELFHeader(bytes), elf.machine == Self.machine, elf.osABI == 64,
            let processor = processors[UInt8(truncatingIfNeeded: elf.flags)]
        else { return nil }
        // Version 2 has other things in its flags.
        switch elf.abiVersion {
        case 1:
            // A cleared bit is also that of a processor without the feature.
            architecture = GFXArchitecture(
                processor: processor, xnack: elf.flags & 0x100 != 0 ? true : nil,
                sramecc: elf.flags & 0x200 != 0 ? true : nil)
        case 2...4:
            architecture = GFXArchitecture(
                processor: processor, xnack: setting(elf.flags >> 8), sramecc: setting(elf.flags >> 10))
        default: return nil
        }
        let version = Int(elf.flags >> 24)
        genericVersion = elf.abiVersion == 4 && version > 0 ? version : nil
    }
}

/// Two bits: not supported, any, off, on.
private func setting(_ bits: UInt32) -> Bool? {
    switch bits & 0b11 {
    case 0b10: false
    case 0b11: true
    default: nil
    }
}

/// EF_AMDGPU_MACH of LLVM's ELF.h.
private let processors: [UInt8: String] = [
    0x28: "gfx801", 0x29: "gfx802", 0x2a: "gfx803", 0x2c: "gfx900", 0x2d: "gfx902", 0x2e: "gfx904", 0x2f: "gfx906",
    0x30: "gfx908", 0x31: "gfx909", 0x32: "gfx90c", 0x33: "gfx1010", 0x34: "gfx1011", 0x35: "gfx1012", 0x36: "gfx1030",
    0x37: "gfx1031", 0x38: "gfx1032", 0x39: "gfx1033", 0x3d: "gfx1035", 0x3e: "gfx1034", 0x3f: "gfx90a",
    0x40: "gfx940", 0x41: "gfx1100", 0x42: "gfx1013", 0x43: "gfx1150", 0x44: "gfx1103", 0x45: "gfx1036",
    0x46: "gfx1101", 0x47: "gfx1102", 0x48: "gfx1200", 0x49: "gfx1250", 0x4a: "gfx1151", 0x4b: "gfx941",
    0x4c: "gfx942", 0x4e: "gfx1201", 0x4f: "gfx950", 0x50: "gfx1310", 0x51: "gfx9-generic", 0x52: "gfx10-1-generic",
    0x53: "gfx10-3-generic", 0x54: "gfx11-generic", 0x55: "gfx1152", 0x57: "gfx1154", 0x58: "gfx1153",
    0x59: "gfx12-generic", 0x5a: "gfx1251", 0x5b: "gfx12-5-generic", 0x5c: "gfx1172", 0x5d: "gfx1170",
    0x5e: "gfx1171", 0x5f: "gfx9-4-generic", 0x62: "gfx11-7-generic", 0x63: "gfx13-generic",
]
