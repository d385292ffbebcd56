/// GPUs by the names that people and drivers give them.
struct Product {
    let name: String
    let architecture: Architecture
    private let words: [String]
    /// See `compact(_:)`.
    private let compact: String

    private init(_ name: String, _ architecture: Architecture) {
        self.name = name
        self.architecture = architecture
        words = Self.words(name)
        compact = Self.compact(words)
    }

    /// The product whose words all stand in `text`, in this order: `A100` for `NVIDIA A100-SXM4-80GB`; the longest name
    /// of several: `GB200`, `RTX 6000 Ada`. `rtx4090` is `RTX 4090`, too.
    static func named(_ text: some StringProtocol) -> Product? {
        let words = words(text)
        let compact = compact(words)
        let found = all.filter { $0.words.isSubsequence(of: words) || $0.compact == compact }
        return found.max { $0.name.utf8.count < $1.name.utf8.count }
    }

    /// Names that look like `text`, the nearest first, at most four.
    static func near(_ text: some StringProtocol) -> [String] {
        let words = words(text)
        let wanted = compact(words)
        guard !wanted.isEmpty, wanted.utf8.count <= 64 else { return [] }
        let candidates = all.compactMap { product -> (name: String, distance: Int)? in
            let distance = editDistance(Array(wanted.utf8), Array(product.compact.utf8))
            let isPart = words.isSubsequence(of: product.words) || product.compact.hasPrefix(wanted)
            return isPart || distance <= min(2, wanted.utf8.count / 2) ? (product.name, isPart ? 0 : distance) : nil
        }
        return candidates.sorted { ($0.distance, $0.name) < ($1.distance, $1.name) }.prefix(4).map(\.name)
    }

    private static let all: [Product] = rows.flatMap { target, names in
        Architecture(target).map { architecture in names.map { Product($0, architecture) } } ?? []
    }

    /// NVIDIA: developer.nvidia.com/cuda-gpus and cuda-legacy-gpus; the H800, H20, A800 and L20 are the H100, A100 and
    /// L40 of another market. AMD: ROCm, docs/reference/gpu-arch-specs.rst, and LLVM's AMDGPUUsage.rst.
    private static let rows: [(target: String, names: [String])] = [
        ("sm_121", ["GB10", "DGX Spark"]),
        (
            "sm_120",
            [
                "RTX PRO 6000", "RTX PRO 5000", "RTX PRO 4500", "RTX PRO 4000", "RTX PRO 2000", "RTX 5090", "RTX 5080",
                "RTX 5070", "RTX 5060", "RTX 5050",
            ]
        ),
        ("sm_110", ["Thor", "T5000", "T4000"]),
        ("sm_103", ["GB300", "B300"]),
        ("sm_100", ["GB200", "B200"]),
        ("sm_90", ["GH200", "H200", "H100", "H800", "H20"]),
        (
            "sm_89",
            [
                "L4", "L40", "L40S", "L40G", "L20", "RTX 6000 Ada", "RTX 5000 Ada", "RTX 4500 Ada", "RTX 4000 Ada",
                "RTX 2000 Ada", "RTX 4090", "RTX 4080", "RTX 4070", "RTX 4060", "RTX 4050",
            ]
        ),
        ("sm_87", ["Orin"]),
        (
            "sm_86",
            [
                "A40", "A10", "A10G", "A16", "A2", "RTX A6000", "RTX A5500", "RTX A5000", "RTX A4500", "RTX A4000",
                "RTX A2000", "RTX 3090", "RTX 3080", "RTX 3070", "RTX 3060", "RTX 3050",
            ]
        ),
        ("sm_80", ["A100", "A30", "A800"]),
        (
            "sm_75",
            [
                "T4", "Quadro RTX 8000", "Quadro RTX 6000", "Quadro RTX 5000", "Quadro RTX 4000", "TITAN RTX",
                "RTX 2080", "RTX 2070", "RTX 2060", "GTX 1660", "GTX 1650",
            ]
        ),
        ("sm_72", ["Xavier"]),
        ("sm_70", ["V100", "TITAN V", "Quadro GV100"]),
        ("sm_61", ["P40", "P4", "GTX 1080", "GTX 1070", "GTX 1060", "GTX 1050"]),
        ("sm_60", ["P100"]),
        ("gfx950", ["MI350X", "MI355X"]),
        ("gfx942", ["MI300A", "MI300X", "MI308X", "MI325X"]),
        ("gfx90a", ["MI210", "MI250", "MI250X"]),
        ("gfx908", ["MI100"]),
        ("gfx906", ["MI50", "MI60", "Radeon VII", "Radeon Pro VII"]),
        ("gfx900", ["MI25", "Vega 56", "Vega 64"]),
        ("gfx1201", ["RX 9070", "AI PRO R9700", "AI PRO R9700S", "AI PRO R9600D"]),
        ("gfx1200", ["RX 9060"]),
        ("gfx1100", ["RX 7900", "PRO W7900", "PRO W7800"]),
        ("gfx1101", ["RX 7800", "RX 7700", "PRO W7700", "PRO V710"]),
        ("gfx1102", ["RX 7600"]),
        ("gfx1103", ["Radeon 780M"]),
        ("gfx1150", ["Radeon 890M"]),
        ("gfx1151", ["Radeon 8060S"]),
        ("gfx1152", ["Radeon 860M"]),
        ("gfx1030", ["RX 6950", "RX 6900", "RX 6800", "PRO W6800", "PRO V620"]),
        ("gfx1031", ["RX 6750", "RX 6700"]),
        ("gfx1032", ["RX 6650", "RX 6600", "PRO W6600"]),
        ("gfx1010", ["RX 5700"]),
        ("gfx1011", ["PRO V520"]),
        ("gfx1012", ["RX 5500", "PRO W5500"]),
    ]

    /// Runs of letters and digits, in lower case.
    private static func words(_ text: some StringProtocol) -> [String] {
        text.lowercased().split { !$0.isLetter && !$0.isNumber }.map(String.init)
    }

    /// In one piece, without what names a vendor or a line of products.
    private static func compact(_ words: [String]) -> String {
        words.filter { !["nvidia", "geforce", "tesla", "amd", "instinct", "radeon"].contains($0) }.joined()
    }
}

extension [String] {
    /// Whether all of them stand in `other`, in this order. The empty list does not.
    fileprivate func isSubsequence(of other: [String]) -> Bool {
        var rest = other[...]
        for word in self {
            guard let place = rest.firstIndex(of: word) else { return false }
            rest = rest[(place + 1)...]
        }
        return !isEmpty
    }
}

/// Levenshtein's distance.
private func editDistance(_ one: [UInt8], _ other: [UInt8]) -> Int {
    var row = Array(0...other.count)
    for (i, byte) in one.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        for (j, another) in other.enumerated() {
            let replaced = diagonal + (byte == another ? 0 : 1)
            diagonal = row[j + 1]
            row[j + 1] = min(replaced, row[j] + 1, diagonal + 1)
        }
    }
    return row[other.count]
}
