/// What came of asking NVML.
enum NVMLAnswer: Sendable {
    case found(GPUFindings)
    /// It is there and does not work; why.
    case failed(String)
    case absent
}

/// Asks NVML for every GPU. Runs as long as the driver lets it.
struct NVMLQuery: ~Copyable {
    /// More are not asked for: no host has so many.
    static let gpusMax: CUnsignedInt = 64
    static let instancesMax: CUnsignedInt = 16

    private let library: NVMLLibrary
    private var findings = GPUFindings()
    private let driver: String?
    private let cudaVersion: CUDAVersion?

    static func ask(_ places: [String]) -> NVMLAnswer {
        switch NVMLLibrary.load(places) {
        case .absent: return .absent
        case .broken(let message): return .failed("NVML cannot be loaded: \(message.asName)")
        case .loaded(var library):
            guard let status = library.initialise() else { return .failed(NVMLFailure.missing("nvmlInit")) }
            guard status == 0 else { return .failed(NVMLFailure(status, library).message) }
            var query = NVMLQuery(library)
            return query.run()
        }
    }

    private init(_ library: consuming NVMLLibrary) {
        driver = library.text("nvmlSystemGetDriverVersion")
        cudaVersion = Self.cudaVersion(library)
        self.library = library
    }

    private mutating func run() -> NVMLAnswer {
        typealias Count = @convention(c) (UnsafeMutablePointer<CUnsignedInt>) -> CInt
        typealias Handle = @convention(c) (CUnsignedInt, UnsafeMutablePointer<NVMLLibrary.Device?>) -> CInt
        guard
            let countDevices = library.function("nvmlDeviceGetCount_v2", "nvmlDeviceGetCount", as: Count.self),
            let handleOf = library.function(
                "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex", as: Handle.self)
        else { return .failed(NVMLFailure.missing("nvmlDeviceGetCount and nvmlDeviceGetHandleByIndex")) }

        var count: CUnsignedInt = 0
        let status = countDevices(&count)
        guard status == 0 else { return .failed(NVMLFailure(status, library).message) }
        if count > Self.gpusMax {
            findings.problems.append("NVML reports \(count) GPUs; the first \(Self.gpusMax) are looked at")
            findings.isComplete = false
        }
        for index in 0..<min(count, Self.gpusMax) {
            var device: NVMLLibrary.Device?
            let status = handleOf(index, &device)
            if status == 0, let device {
                add(device, index)
            } else if status != NVMLFailure.noPermission {
                // What this process may not use, it does not have.
                miss(index, NVMLFailure(status, library).reason)
            }
        }
        if !findings.gpus.isEmpty { findings.sources = [.nvml] }
        return .found(findings)
    }

    private mutating func add(_ device: NVMLLibrary.Device, _ index: CUnsignedInt) {
        let name = library.text("nvmlDeviceGetName", of: device) ?? "NVIDIA GPU"
        guard let architecture = architecture(of: device) ?? Product.named(name)?.architecture else {
            return miss(index, "\(name) is of no known architecture; name it with --gpu")
        }
        let gpu = GPU(
            index: 0, vendor: .nvidia, name: name, architecture: architecture, memoryBytes: memory(of: device),
            uuid: library.text("nvmlDeviceGetUUID", of: device), driver: driver, cudaVersion: cudaVersion,
            pci: address(of: device))
        let instances = instances(of: device, gpu)
        findings.gpus += instances ?? [gpu]
        if instances?.isEmpty == true {
            findings.gpus.append(gpu)
            findings.problems.append("MIG is on for \(name), but it has no instance; make one with nvidia-smi mig -cgi")
        }
    }

    private mutating func miss(_ index: CUnsignedInt, _ reason: String) {
        findings.problems.append("NVIDIA GPU \(index): \(reason)")
        findings.isComplete = false
    }

    private func architecture(of device: NVMLLibrary.Device) -> Architecture? {
        guard let (major, minor) = library.numbers("nvmlDeviceGetCudaComputeCapability", of: device),
            (1...39).contains(major), (0...9).contains(minor)
        else { return nil }
        return .cuda(CUDAArchitecture(number: Int(major) * 10 + Int(minor)))
    }

    /// struct { u64 total, free, used }; 0 where GPU and CPU share their memory.
    private func memory(of device: NVMLLibrary.Device) -> UInt64 {
        library.structure("nvmlDeviceGetMemoryInfo", of: device)?
            .withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) } ?? 0
    }

    /// struct { char busIdLegacy[16]; u32 domain, bus, device, … }.
    private func address(of device: NVMLLibrary.Device) -> String? {
        library.structure("nvmlDeviceGetPciInfo_v3", of: device)?.withUnsafeBytes { bytes in
            let numbers = [16, 20, 24].map { bytes.loadUnaligned(fromByteOffset: $0, as: UInt32.self) }
            return "\(hexadecimal(numbers[0], digits: 4)):\(hexadecimal(numbers[1], digits: 2))"
                + ":\(hexadecimal(numbers[2], digits: 2)).0"
        }
    }

    /// nil where MIG is off or not known. An instance computes as its GPU does.
    private func instances(of device: NVMLLibrary.Device, _ gpu: GPU) -> [GPU]? {
        typealias Handle =
            @convention(c) (
                NVMLLibrary.Device, CUnsignedInt, UnsafeMutablePointer<NVMLLibrary.Device?>
            ) -> CInt
        guard library.numbers("nvmlDeviceGetMigMode", of: device)?.0 == 1,
            let count = library.number("nvmlDeviceGetMaxMigDeviceCount", of: device),
            let handleOf = library.function("nvmlDeviceGetMigDeviceHandleByIndex", as: Handle.self)
        else { return nil }
        return (0..<min(count, Self.instancesMax)).compactMap { index in
            var handle: NVMLLibrary.Device?
            // A slot without an instance is an error.
            guard handleOf(device, index, &handle) == 0, let handle else { return nil }
            var instance = gpu
            instance.name = library.text("nvmlDeviceGetName", of: handle) ?? "\(gpu.name) MIG"
            instance.uuid = library.text("nvmlDeviceGetUUID", of: handle)
            instance.memoryBytes = memory(of: handle)
            instance.migOf = gpu.uuid ?? gpu.pci ?? gpu.name
            return instance
        }
    }

    /// 1000 × major + 10 × minor.
    private static func cudaVersion(_ library: borrowing NVMLLibrary) -> CUDAVersion? {
        typealias Function = @convention(c) (UnsafeMutablePointer<CInt>) -> CInt
        var version: CInt = 0
        let status = library.function(
            "nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion", as: Function.self)?(&version)
        guard status == 0, (1000...99_999).contains(version) else { return nil }
        return CUDAVersion(major: Int(version) / 1000, minor: Int(version) % 1000 / 10)
    }
}
