internal import GPUCompat

extension KernelTarget {
    /// The target of Triton's metadata: `{"backend": "cuda", "arch": 90, "warp_size": 32}`.
    ///
    /// - Parameters:
    ///   - arch: an integer for CUDA, `gfx942` for HIP; producers of images write `"90"` and `"sm_90"` as well.
    ///   - warpSize: may be nil.
    ///   - builtFor: the option `arch`, which says the same again since Triton 3.3, unless TRITON_OVERRIDE_ARCH was set.
    init(triton backend: JSONValue?, arch: JSONValue?, warpSize: JSONValue?, builtFor: JSONValue? = nil)
        throws(MetadataFlaw)
    {
        guard let name = backend?.string else { throw MetadataFlaw("names no backend of its target") }
        guard let backend = KernelBackend(name: name) else {
            throw MetadataFlaw("names a target whose backend '\(short(name, 60))' is not known")
        }
        let architecture = try Architecture(triton: arch, backend)
        if let text = builtFor?.string, let other = Architecture(text), other.processor != architecture.processor {
            throw MetadataFlaw("says that it is for \(architecture) and was built for \(other)")
        }
        var size: Int?
        if let warpSize, warpSize != .null {
            // gfx10 and later can do both.
            let possible = backend == .hip && architecture.warpSize == 32 ? [32, 64] : [architecture.warpSize]
            guard let number = warpSize.integer, possible.contains(number) else {
                throw MetadataFlaw("names a warp size that \(architecture) does not have")
            }
            size = number
        }
        self.init(architecture: architecture, form: .tritonEntry, warpSize: size)
    }
}

extension Architecture {
    fileprivate init(triton arch: JSONValue?, _ backend: KernelBackend) throws(MetadataFlaw) {
        let text: String
        switch arch {
        case .integer(let number) where backend == .cuda: text = String(number)
        case .string(let name): text = name
        default: throw MetadataFlaw("names no architecture of its target")
        }
        guard let architecture = Architecture(text), architecture.backend == backend else {
            throw MetadataFlaw("names the architecture '\(short(text, 60))', which is none of \(backend.rawValue)")
        }
        // Triton compiles for one architecture and looks for it by its number.
        self =
            if case .cuda(let cuda) = architecture { .cuda(CUDAArchitecture(number: cuda.number)) } else {
                architecture
            }
    }

    /// Without suffix and features.
    fileprivate var processor: String {
        switch self {
        case .cuda(let architecture): "sm_\(architecture.number)"
        case .gfx(let architecture): architecture.processor
        }
    }
}
