/// What an NVIDIA GPU is, or what a cubin or PTX was built for: `sm_90`, `sm_90a`, `sm_100f`.
package struct CUDAArchitecture: Hashable, Sendable {
    /// What the builder gave up for more instructions: forward compatibility within the major version.
    package enum Suffix: String, Sendable, CaseIterable {
        case none = ""
        /// Architecture-specific: this one only.
        case a
        /// Family-specific: this one and later ones of its family.
        case f
    }

    /// 10 × major + minor: 90 for compute capability 9.0, 121 for 12.1.
    package let number: Int
    package let suffix: Suffix

    package init(number: Int, suffix: Suffix = .none) {
        self.number = number
        self.suffix = suffix
    }

    /// Reads `sm_90a`, `sm90a`, `compute_90`, `90`, and `9.0` as nvidia-smi prints a capability. nil for anything else.
    package init?(_ text: some StringProtocol) {
        var rest = text.lowercased()[...]
        if let prefix = ["sm_", "sm", "compute_"].first(where: rest.hasPrefix) { rest = rest.dropFirst(prefix.count) }
        let suffix = rest.last.flatMap { Suffix(rawValue: String($0)) } ?? .none
        if suffix != .none { rest = rest.dropLast() }

        let parts = rest.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        guard rest.utf8.count <= 4, parts.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy(\.isDigit) }),
            let number = Int(parts.joined())
        else { return nil }
        guard (10...399).contains(number), parts.count == 1 || parts[1].utf8.count == 1 else { return nil }
        self.init(number: number, suffix: suffix)
    }

    package var major: Int { number / 10 }
    package var minor: Int { number % 10 }
}

extension CUDAArchitecture: CustomStringConvertible {
    package var description: String { "sm_\(number)\(suffix.rawValue)" }
}
