package import MCFSCore

/// GPUs that a user names instead of having them found: `--gpu`, or the configuration.
package enum GPUSpec {
    /// Reads `sm_90`, `sm_90a`, `9.0`, `gfx942`, `gfx90a:xnack-`, and products such as `H100`, `MI300X`, `rtx 4090` or
    /// `NVIDIA A100-SXM4-80GB`, in any case; several in one text are separated by commas. `auto` and `none` are the
    /// caller's.
    ///
    /// - Throws: `usage` for a name that is not known, and where nothing is named.
    package static func gpus(from specs: [String]) throws(MCFSError) -> [GPU] {
        var gpus: [GPU] = []
        for spec in specs.flatMap({ $0.split(separator: ",", omittingEmptySubsequences: false) }) {
            gpus.append(try gpu(String(spec.trimmed), index: gpus.count))
        }
        guard !gpus.isEmpty else { throw MCFSError(.usage, "no GPU is named; \(accepted)") }
        return gpus
    }

    /// What `text` names, as a target or as a product. Generic ones, for which kernels are built, are among them.
    ///
    /// - Throws: `usage` for a name that is not known.
    package static func architecture(named text: String) throws(MCFSError) -> Architecture {
        try named(String(text[...].trimmed)).architecture
    }

    private static func named(_ text: String) throws(MCFSError) -> (name: String, architecture: Architecture) {
        if let architecture = Architecture(text) { return (text, architecture) }
        if let product = Product.named(text) { return (product.name, product.architecture) }
        let near = Product.near(text)
        let hint = near.isEmpty ? "" : "; near to it: \(near.joined(separator: ", "))"
        throw MCFSError(.usage, "\"\(text.asName)\" is no GPU that mcfs knows; \(accepted)\(hint)")
    }

    private static func gpu(_ text: String, index: Int) throws(MCFSError) -> GPU {
        let (name, architecture) = try named(text)
        if case .gfx(let gfx) = architecture, gfx.isGeneric {
            throw MCFSError(.usage, "\(gfx) is what kernels are built for, and no GPU; name one, such as gfx1100")
        }
        return GPU(
            index: index, vendor: architecture.vendor, name: name, architecture: architecture, isAssumed: true)
    }

    private static let accepted =
        "give a target such as sm_90, sm_90a, gfx942 or gfx90a:xnack-, or a product such as H100, MI300X or RTX 4090"
}
