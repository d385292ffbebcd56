/// What a GPU is, or what a kernel was built for, as one text: `sm_90a`, `gfx90a:xnack-`.
package enum Architecture: Hashable, Sendable {
    case cuda(CUDAArchitecture)
    case gfx(GFXArchitecture)

    /// nil for a text of neither form; see the two types.
    package init?(_ text: some StringProtocol) {
        if let gfx = GFXArchitecture(text) {
            self = .gfx(gfx)
        } else if let cuda = CUDAArchitecture(text) {
            self = .cuda(cuda)
        } else {
            return nil
        }
    }

    package var backend: KernelBackend {
        switch self {
        case .cuda: .cuda
        case .gfx: .hip
        }
    }

    package var vendor: GPUVendor {
        switch self {
        case .cuda: .nvidia
        case .gfx: .amd
        }
    }
}

extension Architecture: CustomStringConvertible {
    package var description: String {
        switch self {
        case .cuda(let architecture): architecture.description
        case .gfx(let architecture): architecture.description
        }
    }
}
