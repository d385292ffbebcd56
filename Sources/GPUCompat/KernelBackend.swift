/// What a kernel was compiled for, as producers of kernels name it.
package enum KernelBackend: String, Sendable, CaseIterable {
    case cuda
    case hip

    /// `rocm` is another name of `hip`: producers disagree. nil for others.
    package init?(name: String) {
        switch name {
        case "cuda": self = .cuda
        case "hip", "rocm": self = .hip
        default: return nil
        }
    }
}
