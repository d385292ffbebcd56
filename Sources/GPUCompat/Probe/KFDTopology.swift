internal import Glibc
internal import MCFSCore

/// AMD's GPUs, from the topology that its kernel driver shows in sysfs.
struct KFDTopology {
    static let nodesMax = 256
    private static let folder = "sys/class/kfd/kfd/topology/nodes"

    let files: SystemFiles
    let environment: Environment

    func find() -> GPUFindings {
        var findings = GPUFindings()
        var cards: [UInt64: Int] = [:]
        // How ROCm's library numbers the nodes: those that it may not read do not count.
        var number = 0
        var isDenied = false
        let nodes = files.entries(Self.folder).compactMap { Int($0) }.sorted()
        if nodes.count > Self.nodesMax {
            findings.problems.append("KFD shows \(nodes.count) nodes; the first \(Self.nodesMax) are looked at")
            findings.isComplete = false
        }
        for node in nodes.prefix(Self.nodesMax) {
            let properties: KFDProperties
            do throws(Errno) {
                properties = KFDProperties(try files.text("\(Self.folder)/\(node)/properties"))
            } catch {
                // The device cgroup keeps this process from the GPU.
                if [EPERM, EACCES].contains(error.rawValue) {
                    isDenied = true
                } else if error != .noEntry {
                    findings.problems.append("KFD's node \(node) cannot be read: \(error)")
                    findings.isComplete = false
                }
                continue
            }
            defer { number += 1 }
            guard properties.isGPU else { continue }
            guard let gpu = gpu(node, number, properties) else {
                let device = hexadecimal(properties["device_id"] ?? 0, digits: 4)
                findings.problems.append(
                    "the AMD GPU of KFD's node \(node) (device \(device)) is of no known architecture; "
                        + "name it with --gpu"
                )
                findings.isComplete = false
                continue
            }
            // Partitions of one card have one unique_id. The two halves of an MI250 have one each, and are two GPUs.
            if let card = properties["unique_id"], card != 0 {
                if let first = cards[card] {
                    findings.gpus[first].memoryBytes = max(findings.gpus[first].memoryBytes, gpu.memoryBytes)
                    continue
                }
                cards[card] = findings.gpus.count
            }
            findings.gpus.append(gpu)
        }
        if !findings.gpus.isEmpty { findings.sources = [.kfd] }
        if isDenied, findings.gpus.isEmpty {
            findings.problems.append(
                "there are AMD GPUs, but this process may not use them; give its container /dev/kfd and /dev/dri")
        }
        return findings
    }

    private func gpu(_ node: Int, _ number: Int, _ properties: KFDProperties) -> GPU? {
        let device = AMDDevices.device(properties["device_id"])
        guard let processor = properties.processor ?? device?.processor else { return nil }
        let architecture = architecture(processor, properties)
        let card = properties["drm_render_minor"].map { "sys/class/drm/renderD\($0)/device" }
        let productName = card.flatMap { files.value("\($0)/product_name") }
        let codeName = files.value("\(Self.folder)/\(node)/name")
        var gpu = GPU(
            index: 0, vendor: .amd,
            name: productName?.asName ?? device.map(\.name) ?? codeName?.asName ?? processor,
            architecture: .gfx(architecture),
            memoryBytes: card.flatMap { files.value("\($0)/mem_info_vram_total") }.flatMap { UInt64($0) }
                ?? bankBytes(node),
            uuid: properties["unique_id"].flatMap { $0 == 0 ? nil : "GPU-\(hexadecimal($0, digits: 16))" },
            driver: files.value("sys/module/amdgpu/version")?.asName, pci: properties.pci)
        if let other = overridden(number), other != processor {
            gpu.overriddenArchitecture = .gfx(self.architecture(other, properties))
        }
        return gpu
    }

    /// XNACK belongs to the process and not to the GPU: without `HSA_XNACK` it is not known.
    private func architecture(_ processor: String, _ properties: KFDProperties) -> GFXArchitecture {
        let xnack = ["0": false, "1": true][environment["HSA_XNACK"] ?? ""]
        return GFXArchitecture(
            processor: processor, xnack: GFXTables.withXNACK.contains(processor) ? xnack : nil,
            sramecc: GFXTables.withSRAMECC.contains(processor) ? properties.sramecc : nil)
    }

    /// `HSA_OVERRIDE_GFX_VERSION=10.3.0`, for one node with its number behind it (ROCm, libhsakmt/src/topology.c).
    private func overridden(_ number: Int) -> String? {
        let name = "HSA_OVERRIDE_GFX_VERSION"
        guard let version = environment["\(name)_\(number)"] ?? environment[name] else { return nil }
        let numbers = version.split(separator: ".", omittingEmptySubsequences: false).map { Int($0) ?? -1 }
        guard numbers.count == 3 else { return nil }
        return KFDProperties.processor(major: numbers[0], minor: numbers[1], stepping: numbers[2])
    }

    /// The memory of a node's own banks (heaps 1 and 2: public and private frame buffer).
    private func bankBytes(_ node: Int) -> UInt64 {
        let folder = "\(Self.folder)/\(node)/mem_banks"
        return files.entries(folder).prefix(64).reduce(0) { sum, bank in
            guard let text = try? files.text("\(folder)/\(bank)/properties") else { return sum }
            let bank = KFDProperties(text)
            guard let heap = bank["heap_type"], heap == 1 || heap == 2 else { return sum }
            let (total, overflows) = sum.addingReportingOverflow(bank["size_in_bytes"] ?? 0)
            return overflows ? sum : total
        }
    }
}
