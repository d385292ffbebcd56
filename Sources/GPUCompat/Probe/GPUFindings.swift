/// What a look at the host found.
package struct GPUFindings: Sendable, Hashable {
    package enum Source: String, Sendable, CaseIterable {
        case nvml
        /// /proc/driver/nvidia.
        case proc
        case pci
        case kfd
    }

    /// NVIDIA's first, then AMD's; `index` counts through both.
    package var gpus: [GPU]
    /// What stood in the way, a sentence each, with a remedy where there is one.
    package var problems: [String]
    /// Where the GPUs were found.
    package var sources: [Source]
    /// false where there is, or may be, a GPU that is not in `gpus`: then what is foreign to these is not foreign to
    /// the host, and nothing may be hidden.
    package var isComplete: Bool

    package init(
        gpus: [GPU] = [], problems: [String] = [], sources: [Source] = [], isComplete: Bool = true
    ) {
        self.gpus = gpus
        self.problems = problems
        self.sources = sources
        self.isComplete = isComplete
    }

    static func + (one: GPUFindings, other: GPUFindings) -> GPUFindings {
        var gpus = one.gpus + other.gpus
        for index in gpus.indices { gpus[index].index = index }
        return GPUFindings(
            gpus: gpus, problems: one.problems + other.problems, sources: one.sources + other.sources,
            isComplete: one.isComplete && other.isComplete)
    }
}
