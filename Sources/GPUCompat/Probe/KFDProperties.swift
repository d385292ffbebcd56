/// A `properties` file of KFD: lines of a key and a decimal number.
struct KFDProperties {
    private var numbers: [Substring: UInt64] = [:]

    /// Skips what it cannot read.
    init(_ text: String) {
        for line in text.split(whereSeparator: \.isNewline) {
            let words = line.split(separator: " ", maxSplits: 2)
            if words.count == 2, let number = UInt64(words[1].trimmed) { numbers[words[0]] = number }
        }
    }

    /// nil where the driver of this host does not have the key yet.
    subscript(key: String) -> UInt64? { numbers[key[...]] }

    /// CPUs are nodes, too.
    var isGPU: Bool { (self["simd_count"] ?? 0) > 0 }

    /// `gfx90a`, from major × 10000 + minor × 100 + stepping; nil where the driver does not say.
    var processor: String? {
        guard let version = self["gfx_target_version"], version <= 999_999 else { return nil }
        return Self.processor(
            major: Int(version) / 10000, minor: Int(version) / 100 % 100, stepping: Int(version) % 100)
    }

    /// nil for numbers that no name can have: minor and stepping are one hexadecimal digit each.
    static func processor(major: Int, minor: Int, stepping: Int) -> String? {
        guard (1...99).contains(major), (0...15).contains(minor), (0...15).contains(stepping) else { return nil }
        return "gfx\(major)\(String(minor, radix: 16))\(String(stepping, radix: 16))"
    }

    /// Its address as in /sys/bus/pci. Partitions have the number of the partition in place of the function.
    var pci: String? {
        guard let location = self["location_id"], location <= 0xffff else { return nil }
        let domain = self["domain"] ?? 0
        guard domain <= 0xffff_ffff else { return nil }
        let (bus, device, function) = (location >> 8, location >> 3 & 31, location & 7)
        return "\(hexadecimal(domain, digits: 4)):\(hexadecimal(bus, digits: 2)):\(hexadecimal(device, digits: 2))"
            + ".\(function)"
    }

    /// Whether the memories on the chip have error correction, as AMD's runtime reads it. nil on drivers before
    /// `gfx_target_version`, which used another bit.
    var sramecc: Bool? {
        guard self["gfx_target_version"] != nil, let capability = self["capability"] else { return nil }
        return capability & 0x0400_0000 != 0
    }
}
