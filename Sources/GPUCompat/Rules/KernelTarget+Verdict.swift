extension KernelTarget {
    /// - Returns: `runs` if at least one of the GPUs runs it, `unknown` without GPUs.
    package func verdict(on gpus: [GPU]) -> Verdict {
        Verdict(
            outcome: .unknown, reason: "built for \(architecture); no GPU is known to compare with", rule: "no-gpu")
    }
}
