internal import Glibc

/// Which entry of an index is for this host.
package struct PlatformChoice: Sendable {
    package let host: Platform

    package init(host: Platform) { self.host = Self.normalized(host) }

    /// This machine, as uname(2) names it.
    package static var current: PlatformChoice {
        var names = utsname()
        uname(&names)
        let machine = withUnsafeBytes(of: names.machine) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        return PlatformChoice(host: Platform(os: "linux", architecture: machine))
    }

    /// The best entry: the host's own platform, in the order of the index; an entry without a platform where none
    /// matches. nil where there is neither.
    package func choose(from descriptors: [Descriptor]) -> Descriptor? {
        var best: (rank: Int, descriptor: Descriptor)?
        for descriptor in descriptors where !Self.isAttestation(descriptor) {
            guard let rank = rank(descriptor.platform) else { continue }
            if best.map({ rank < $0.rank }) ?? true { best = (rank, descriptor) }
        }
        return best?.descriptor
    }

    /// What there is to choose from, for messages.
    package static func list(_ descriptors: [Descriptor]) -> String {
        let names = descriptors.filter { !isAttestation($0) }.map { $0.platform?.description ?? "no platform" }
        return names.isEmpty ? "nothing" : names.prefix(12).joined(separator: ", ")
    }

    /// Provenance and bills of material that build tools put beside images.
    static func isAttestation(_ descriptor: Descriptor) -> Bool {
        descriptor.annotations["vnd.docker.reference.type"] != nil
            || (descriptor.platform?.os == "unknown" && descriptor.platform?.architecture == "unknown")
    }

    /// Lower is better; nil: not for this host.
    private func rank(_ platform: Platform?) -> Int? {
        guard let platform, !(platform.os.isEmpty && platform.architecture.isEmpty) else { return 1000 }
        let candidate = Self.normalized(platform)
        guard candidate.os == host.os, candidate.architecture == host.architecture else { return nil }
        if candidate.variant == host.variant { return 0 }
        guard let level = Self.level(candidate.variant), let own = Self.level(host.variant) else { return 500 }
        switch host.architecture {
        // An older ARM runs nothing newer, so the closest lower level is best.
        case "arm": return level <= own ? own - level : nil
        // The level of this CPU is not known; files of a lower level suit more hosts.
        default: return level >= own ? level - own : 100 + own - level
        }
    }

    /// The number in `v8`: what an index says, so it is small or none.
    private static func level(_ variant: String?) -> Int? {
        guard let variant, variant.hasPrefix("v") else { return nil }
        return UInt8(variant.dropFirst()).map { Int($0) }
    }

    /// One name for each architecture, and its default variant.
    static func normalized(_ platform: Platform) -> Platform {
        var result = Platform(
            os: platform.os.lowercased(), architecture: platform.architecture.lowercased(),
            variant: platform.variant.flatMap { $0.isEmpty ? nil : $0.lowercased() })
        switch result.architecture {
        case "x86_64", "x86-64", "amd64":
            result.architecture = "amd64"
            result.variant = result.variant ?? "v1"
        case "aarch64", "arm64":
            result.architecture = "arm64"
            result.variant = result.variant == nil || result.variant == "8" ? "v8" : result.variant
        case "armhf", "armv7l", "arm":
            result.architecture = "arm"
            result.variant = result.variant.map { $0.hasPrefix("v") ? $0 : "v\($0)" } ?? "v7"
        case "armel", "armv6l":
            result.architecture = "arm"
            result.variant = "v6"
        case "i386", "i686": result.architecture = "386"
        default: break
        }
        return result
    }
}
