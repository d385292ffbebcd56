package enum GPUVendor: String, Sendable, CaseIterable {
    case nvidia
    case amd
}
