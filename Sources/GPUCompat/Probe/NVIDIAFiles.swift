internal import MCFSCore

/// NVIDIA's GPUs without NVML: /proc/driver/nvidia, where a driver is loaded, else the PCI bus. Neither knows a compute
/// capability: it comes from tables of products and devices.
struct NVIDIAFiles {
    private static let driver = "proc/driver/nvidia"

    let files: SystemFiles

    func find() -> GPUFindings {
        let driver = (try? files.text("\(Self.driver)/version")).flatMap(Self.driverVersion)
        // A container has entries here for those GPUs alone that it was given.
        let known = files.entries("\(Self.driver)/gpus")
        let addresses = known.isEmpty ? busAddresses() : known
        var findings = GPUFindings()
        for address in addresses {
            let text = known.isEmpty ? nil : try? files.text("\(Self.driver)/gpus/\(address)/information")
            let information = NVIDIAInformation(text ?? "")
            if information["GPU Excluded"] == "Yes" { continue }
            if let gpu = gpu(address, information, driver) {
                findings.gpus.append(gpu)
            } else if driver != nil {
                // Without a driver nothing runs on it, whatever it is.
                let name = information["Model"]?.asName ?? "of an unknown model"
                findings.problems.append(
                    "the NVIDIA GPU at \(address.asName) (\(name)) is of no known architecture; name it with --gpu")
                findings.isComplete = false
            }
        }
        guard !findings.gpus.isEmpty else { return findings }
        findings.sources = [known.isEmpty ? .pci : .proc]
        if driver == nil { findings.problems.append("there are NVIDIA GPUs, but their driver is not loaded") }
        return findings
    }

    private func gpu(_ address: String, _ information: NVIDIAInformation, _ driver: String?) -> GPU? {
        let device = files.hexadecimalValue("sys/bus/pci/devices/\(address)/device")
        let model = information["Model"]?.asName ?? device.flatMap(NVIDIADevices.name)
        guard
            let architecture = model.flatMap({ Product.named($0)?.architecture })
                ?? device.flatMap(NVIDIADevices.architecture).map(Architecture.cuda)
        else { return nil }
        // Before the GPU is used for the first time its UUID is question marks.
        let uuid = information["GPU UUID"].flatMap { $0.hasPrefix("GPU-") && !$0.contains("?") ? $0.asName : nil }
        return GPU(
            index: 0, vendor: .nvidia, name: model ?? "NVIDIA GPU", architecture: architecture, uuid: uuid,
            driver: driver, pci: address.lowercased())
    }

    /// Display controllers (class 03) of NVIDIA: VGA 0300, 3D 0302.
    private func busAddresses() -> [String] {
        files.entries("sys/bus/pci/devices").filter { address in
            let folder = "sys/bus/pci/devices/\(address)"
            guard files.hexadecimalValue("\(folder)/vendor") == 0x10de else { return false }
            return [0x0300, 0x0302].contains((files.hexadecimalValue("\(folder)/class") ?? 0) >> 8)
        }
    }

    /// The dotted number in the first line: `NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct …`.
    static func driverVersion(_ text: String) -> String? {
        text.prefix { !$0.isNewline }.split(whereSeparator: \.isWhitespace).first { word in
            let numbers = word.split(separator: ".", omittingEmptySubsequences: false)
            return (2...3).contains(numbers.count)
                && numbers.allSatisfy { (1...6).contains($0.utf8.count) && $0.utf8.allSatisfy(\.isDigit) }
        }.map(String.init)
    }
}

/// /proc/driver/nvidia/gpus/…/information: `Key: value` in each line, with blanks and tabs between.
struct NVIDIAInformation {
    private var values: [Substring: Substring] = [:]

    init(_ text: String) {
        for line in text.split(whereSeparator: \.isNewline) {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let value = line[line.index(after: colon)...].trimmed
            if !value.isEmpty { values[line[..<colon].trimmed] = value }
        }
    }

    subscript(key: String) -> Substring? { values[key[...]] }
}
