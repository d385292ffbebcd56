/// A GPU that this host has, or is said to have.
package struct GPU: Hashable, Sendable {
    /// Its place in the list that it came in, from 0 on.
    package var index: Int
    package var vendor: GPUVendor
    /// As the driver names it (`NVIDIA H100 80GB HBM3`), or as the tables of products do (`MI300X`).
    package var name: String
    package var architecture: Architecture
    /// What its runtime says that it is instead, where `HSA_OVERRIDE_GFX_VERSION` is set: kernels of both are shown.
    package var overriddenArchitecture: Architecture?
    /// Threads in a warp (wavefront).
    package var warpSize: Int
    /// 0 if not known.
    package var memoryBytes: UInt64
    package var uuid: String?
    /// The version of its driver, such as `580.126.18`.
    package var driver: String?
    /// The newest CUDA that its driver knows.
    package var cudaVersion: CUDAVersion?
    /// Its address as in /sys/bus/pci: `0000:3b:00.0`.
    package var pci: String?
    /// Of a MIG instance: the UUID, else the address, of the GPU that it is a part of.
    package var migOf: String?
    /// It was named by the user, not found.
    package var isAssumed: Bool

    package init(
        index: Int, vendor: GPUVendor, name: String, architecture: Architecture, warpSize: Int? = nil,
        memoryBytes: UInt64 = 0, uuid: String? = nil, driver: String? = nil, cudaVersion: CUDAVersion? = nil,
        pci: String? = nil, migOf: String? = nil, isAssumed: Bool = false
    ) {
        self.index = index
        self.vendor = vendor
        self.name = name
        self.architecture = architecture
        self.warpSize = warpSize ?? architecture.warpSize
        self.memoryBytes = memoryBytes
        self.uuid = uuid
        self.driver = driver
        self.cudaVersion = cudaVersion
        self.pci = pci
        self.migOf = migOf
        self.isAssumed = isAssumed
    }

    package var isMIG: Bool { migOf != nil }

    /// What kernels are compared with, without a suffix or features: `sm_90`, `gfx942`.
    package var target: String {
        switch architecture {
        case .cuda(let architecture): "sm_\(architecture.number)"
        case .gfx(let architecture): architecture.processor
        }
    }
}

extension Architecture {
    /// Threads in a warp of its GPUs. CUDA: 32 everywhere. AMD: 64 up to gfx9, 32 from gfx10 on, as Triton has it
    /// (`third_party/amd/backend`); LLVM's AMDGPUUsage.rst, wavefrontsize64.
    package var warpSize: Int {
        switch self {
        case .cuda: 32
        case .gfx(let architecture): architecture.major >= 10 ? 32 : 64
        }
    }
}

/// A version of CUDA, such as 12.8.
package struct CUDAVersion: Hashable, Sendable {
    package let major: Int
    package let minor: Int

    package init(major: Int, minor: Int) {
        self.major = major
        self.minor = minor
    }

    /// Reads `12.8`.
    package init?(_ text: some StringProtocol) {
        guard let (major, minor) = twoNumbers(text) else { return nil }
        self.init(major: major, minor: minor)
    }
}

extension CUDAVersion: Comparable, CustomStringConvertible {
    package static func < (one: Self, other: Self) -> Bool { (one.major, one.minor) < (other.major, other.minor) }

    package var description: String { "\(major).\(minor)" }
}
