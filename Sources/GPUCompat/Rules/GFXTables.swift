/// What LLVM publishes about which code object runs where (llvm/docs/AMDGPUUsage.rst, "Processors").
enum GFXTables {
    /// The processors of each generic one. Each was added with version 1: `llvm::AMDGPU::GenericVersion` (LLVM 23) has
    /// no other. gfx11-7, gfx12-5 and gfx13 are of the newest LLVM only. gfx908 and gfx90a are in none.
    static let generic: [(name: String, members: [(processor: String, sinceVersion: Int)])] = [
        ("gfx9-generic", ["gfx900", "gfx902", "gfx904", "gfx906", "gfx909", "gfx90c"]),
        ("gfx9-4-generic", ["gfx940", "gfx941", "gfx942", "gfx950"]),
        ("gfx10-1-generic", ["gfx1010", "gfx1011", "gfx1012", "gfx1013"]),
        ("gfx10-3-generic", ["gfx1030", "gfx1031", "gfx1032", "gfx1033", "gfx1034", "gfx1035", "gfx1036"]),
        (
            "gfx11-generic",
            ["gfx1100", "gfx1101", "gfx1102", "gfx1103", "gfx1150", "gfx1151", "gfx1152", "gfx1153"]
        ),
        ("gfx11-7-generic", ["gfx1170", "gfx1171", "gfx1172"]),
        ("gfx12-generic", ["gfx1200", "gfx1201"]),
        ("gfx12-5-generic", ["gfx1250", "gfx1251"]),
        ("gfx13-generic", ["gfx1310"]),
    ].map { name, members in (name, members.map { ($0, 1) }) }

    /// Processors that are in none.
    static let withoutGeneric: Set = ["gfx908", "gfx90a"]

    /// Processors with the setting XNACK; others have no code for it.
    static let withXNACK: Set = [
        "gfx801", "gfx810", "gfx900", "gfx902", "gfx904", "gfx906", "gfx908", "gfx909", "gfx90a", "gfx90c", "gfx940",
        "gfx941", "gfx942", "gfx950", "gfx1010", "gfx1011", "gfx1012", "gfx1013",
    ]

    /// Processors with the setting SRAMECC.
    static let withSRAMECC: Set = ["gfx906", "gfx908", "gfx90a", "gfx940", "gfx941", "gfx942", "gfx950"]
}
