/// What an AMD GPU is, or what a code object was built for: LLVM's target ID, `gfx90a:sramecc+:xnack-`.
package struct GFXArchitecture: Hashable, Sendable {
    /// `gfx90a`, or a generic one such as `gfx11-generic`.
    package let processor: String
    /// Of a code object: which setting it was built for, nil for any. Of a GPU: how it is set, nil if not known.
    package let xnack: Bool?
    /// Likewise.
    package let sramecc: Bool?

    /// - Parameter processor: as LLVM spells it; it is not checked.
    package init(processor: String, xnack: Bool? = nil, sramecc: Bool? = nil) {
        self.processor = processor
        self.xnack = xnack
        self.sramecc = sramecc
    }

    /// Reads a target ID, its features in any order. nil for another form, an unknown feature or one given twice.
    package init?(_ text: some StringProtocol) {
        let parts = text.lowercased().split(separator: ":", omittingEmptySubsequences: false)
        guard let processor = parts.first, Self.isProcessor(processor) else { return nil }
        var features: [Substring: Bool] = [:]
        for part in parts.dropFirst() {
            let name = part.dropLast()
            guard let sign = part.last, sign == "+" || sign == "-", name == "xnack" || name == "sramecc",
                features.updateValue(sign == "+", forKey: name) == nil
            else { return nil }
        }
        self.init(processor: String(processor), xnack: features["xnack"], sramecc: features["sramecc"])
    }

    package var isGeneric: Bool { processor.hasSuffix("-generic") }

    /// The generation: 9 for `gfx90a` and `gfx9-4-generic`, 11 for `gfx1100`. 0 for a processor of another form.
    package var major: Int {
        let version = processor.dropFirst(3)
        // `gfx` major (decimal) minor (one hex digit) stepping (one hex digit); generic: `gfx` major `-`….
        return Int(isGeneric ? version.prefix { $0 != "-" } : version.dropLast(2)) ?? 0
    }

    private static func isProcessor(_ text: Substring) -> Bool {
        guard text.hasPrefix("gfx"), text.utf8.count <= 20 else { return false }
        let version = text.dropFirst(3)
        if version.hasSuffix("-generic") {
            let numbers = version.dropLast("-generic".count).split(separator: "-", omittingEmptySubsequences: false)
            return numbers.count <= 2
                && numbers.allSatisfy { (1...2).contains($0.utf8.count) && $0.utf8.allSatisfy(\.isDigit) }
        }
        return (3...4).contains(version.utf8.count) && version.utf8.dropLast(2).allSatisfy(\.isDigit)
            && version.utf8.allSatisfy(\.isLowercaseHexDigit)
    }
}

extension GFXArchitecture: CustomStringConvertible {
    /// The canonical target ID: features in alphabetical order.
    package var description: String {
        let features = [("sramecc", sramecc), ("xnack", xnack)]
        return features.reduce(processor) { text, feature in
            feature.1.map { "\(text):\(feature.0)\($0 ? "+" : "-")" } ?? text
        }
    }
}
