extension KernelTarget {
    func cudaMatch(_ target: CUDAArchitecture, _ device: CUDAArchitecture, _ gpu: GPU) -> Match {
        let (target, device) = (target.current, device.current)
        switch form {
        case .tritonEntry: return target.number == device.number ? .runs(.tritonExact) : .foreign(.tritonExact)
        case .ptx(let isa): return ptxMatch(isa, target, device, gpu)
        case .cubin, .codeObject: return cubinMatch(target, device, gpu)
        }
    }

    private func cubinMatch(_ target: CUDAArchitecture, _ device: CUDAArchitecture, _ gpu: GPU) -> Match {
        switch target.suffix {
        case .a:
            return target.number == device.number ? .runs(.cubinExact) : .foreign(.cubinExact)
        case .f:
            return familyMatch(target, device, .cubinFamily, gpu)
        case .none:
            guard target.major == device.major, target.minor <= device.minor else { return .foreign(.cubinMajor) }
            let tegra = CUDATables.tegra
            if target.number == device.number || !tegra.contains(target.number) && !tegra.contains(device.number) {
                return .runs(.cubinMajor)
            }
            return .unknown(
                .cubinTegra, "\(builtFor); NVIDIA does not promise that it runs on \(gpu.label): one of them is Tegra")
        }
    }

    /// The suffix `f`: later ones of the family. What the table lacks may be of a family with its major version.
    private func familyMatch(
        _ target: CUDAArchitecture, _ device: CUDAArchitecture, _ rule: CompatibilityRule, _ gpu: GPU
    ) -> Match {
        guard target.number < device.number else {
            return target.number == device.number ? .runs(rule) : .foreign(rule)
        }
        let family = CUDATables.families.first { $0.contains(target.number) }
        if family?.contains(device.number) == true { return .runs(rule) }
        let isOfAnother = family != nil && CUDATables.families.joined().contains(device.number)
        if isOfAnother || target.major != device.major { return .foreign(rule) }
        return .unknown(rule, "\(builtFor); whether \(gpu.label) is of the same family is not known")
    }

    private func ptxMatch(
        _ isa: PTXVersion, _ target: CUDAArchitecture, _ device: CUDAArchitecture, _ gpu: GPU
    ) -> Match {
        let byTarget: Match =
            switch target.suffix {
            case .a: target.number == device.number ? .runs(.ptxTarget) : .foreign(.ptxTarget)
            case .f: familyMatch(target, device, .ptxTarget, gpu)
            case .none: target.number <= device.number ? .runs(.ptxTarget) : .foreign(.ptxTarget)
            }
        return byTarget.outcome == .runs ? isaMatch(isa, gpu) : byTarget
    }

    /// Whether the driver knows the version of PTX. Where it does not, loading fails with error 222.
    private func isaMatch(_ isa: PTXVersion, _ gpu: GPU) -> Match {
        let table = CUDATables.ptxVersions
        // Of a version between two rows it is known only that it is younger than the lower one.
        let row = table.last { $0.isa <= isa }
        let need = row.map { $0.isa == isa ? "CUDA \($0.cuda)" : "a CUDA after \($0.cuda)" } ?? "CUDA"
        guard let known = gpu.knownCUDA else {
            let detail = "\(builtFor); runs on \(gpu.label) where the driver has \(need) or later"
            // Who names a GPU says nothing about a driver.
            return gpu.isAssumed ? .runs(.ptxISA, detail) : .unknown(.ptxISA, detail)
        }
        if let newest = table.last(where: { $0.cuda <= known.lowerBound })?.isa, isa <= newest { return .runs(.ptxISA) }

        let driver = gpu.cudaVersion.map { "has CUDA \($0)" } ?? "is \(gpu.driver ?? "not known")"
        let detail = "\(builtFor) needs \(need); the driver of \(gpu.label) \(driver)"
        guard let oldest = row?.cuda, known.upperBound < oldest else { return .unknown(.ptxISA, detail) }
        return CUDATables.withoutForwardCompatibility.contains(where: gpu.name.contains)
            ? .foreign(.ptxISA, detail) : .unknown(.ptxISA, detail + ", unless its container brings cuda-compat")
    }
}

extension CUDAArchitecture {
    /// Under the name that it has today.
    fileprivate var current: CUDAArchitecture {
        CUDATables.renamed[number].map { CUDAArchitecture(number: $0, suffix: suffix) } ?? self
    }
}

extension GPU {
    /// Among which versions the CUDA of its driver is; nil if nothing is known.
    fileprivate var knownCUDA: ClosedRange<CUDAVersion>? {
        if let cudaVersion { return cudaVersion...cudaVersion }
        guard let branch = driver?.split(separator: ".").first.flatMap({ Int($0) }) else { return nil }
        let major = CUDATables.driverBranches.last { $0.driver <= branch }?.cudaMajor ?? 0
        let next = CUDATables.driverBranches.first { $0.driver > branch }?.cudaMajor ?? .max
        return CUDAVersion(major: major, minor: 0)...CUDAVersion(major: next - 1, minor: .max)
    }
}
