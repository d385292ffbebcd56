package enum GPUVendor: String, Sendable, Codable, CaseIterable {
    case nvidia
    case amd
}
