package import GPUCompat

/// The lines `.version 8.7` and `.target sm_90a` of a `.ptx` file.
package struct PTXHeader: Hashable, Sendable {
    package let version: PTXVersion
    package let architecture: CUDAArchitecture

    /// The lines are looked for in as many bytes.
    package static let byteCount = 4096

    /// nil unless both lines are there, whole.
    package init?(_ bytes: [UInt8]) {
        var version: PTXVersion?
        var architecture: CUDAArchitecture?
        // What follows the last newline may be cut.
        let lines = bytes.prefix(Self.byteCount).split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for line in lines.dropLast() {
            let words = line.split { $0 <= 0x20 || $0 == UInt8(ascii: ",") }
            guard words.count > 1 else { continue }
            let value = String(decoding: words[1].prefix(20), as: UTF8.self)
            if version == nil, words[0].elementsEqual(".version".utf8) {
                version = PTXVersion(value)
            } else if architecture == nil, words[0].elementsEqual(".target".utf8), value.hasPrefix("sm_") {
                architecture = CUDAArchitecture(value)
            }
        }
        guard let version, let architecture else { return nil }
        self.version = version
        self.architecture = architecture
    }
}
