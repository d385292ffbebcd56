import MCFSTestSupport
import Testing

@testable import GPUCompat

@Suite("Parsers of the driver's files, with damaged input")
struct MutationTests {
    private static let rounds = 1500

    @Test("damaged properties of a KFD node give a valid name and address, or none", arguments: [UInt64(1), 20_26])
    func properties(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        for round in 0..<Self.rounds {
            let text = Self.damaged(round % 2 == 0 ? KFDSample.mi300x : KFDSample.vega10, &generator)
            let properties = KFDProperties(text)
            if let processor = properties.processor {
                #expect(GFXArchitecture(processor)?.description == processor, "seed \(seed), round \(round): \(text)")
            }
            if let pci = properties.pci {
                #expect(Self.isAddress(pci), "seed \(seed), round \(round): \(text)")
            }
            _ = (properties.isGPU, properties.sramecc, AMDDevices.device(properties["device_id"])?.name)
        }
    }

    @Test("damaged files of NVIDIA's driver give trimmed values, or none", arguments: [UInt64(1), 20_26])
    func information(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        for round in 0..<Self.rounds {
            let text = Self.damaged(NVIDIAFilesTests.information, &generator)
            let information = NVIDIAInformation(text)
            for key in ["Model", "GPU UUID", "GPU Excluded", "Bus Location"] {
                guard let value = information[key] else { continue }
                let name = value.asName
                let isClean = name.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7f }
                #expect(!value.isEmpty && value == value.trimmed, "seed \(seed), round \(round): \(text)")
                #expect(isClean && name.unicodeScalars.count <= 128, "seed \(seed), round \(round): \(text)")
                _ = Product.named(value)
            }
            let version = NVIDIAFiles.driverVersion(Self.damaged(NVIDIAFilesTests.version, &generator)) ?? "0.0"
            #expect(version.utf8.allSatisfy { $0.isDigit || $0 == UInt8(ascii: ".") })
        }
    }

    private static func isAddress(_ text: String) -> Bool {
        let parts = text.split(separator: ":")
        return parts.count == 3 && (4...8).contains(parts[0].utf8.count) && parts[1].utf8.count == 2
            && parts[2].utf8.count == 4 && text.utf8.allSatisfy { $0.isLowercaseHexDigit || ":.".utf8.contains($0) }
    }

    /// One to four damages: a byte changed, a piece taken out, doubled, or replaced by what breaks parsers.
    private static func damaged(_ text: String, _ generator: inout SeededGenerator) -> String {
        let pieces = [
            "", "\n", " ", "\t", ":", "0", "-", "+", "\u{0}", "é", "\u{fe0f}", "99999999999999999999",
            "18446744073709551615",
        ]
        var bytes = Array(text.utf8)
        for _ in 0..<Int.random(in: 1...4, using: &generator) where !bytes.isEmpty {
            let start = Int.random(in: 0..<bytes.count, using: &generator)
            let end = min(bytes.count, start + Int.random(in: 0...24, using: &generator))
            switch Int.random(in: 0..<4, using: &generator) {
            case 0: bytes[start] = UInt8.random(in: 0...255, using: &generator)
            case 1: bytes.removeSubrange(start..<end)
            case 2: bytes.insert(contentsOf: bytes[start..<end], at: start)
            default: bytes.replaceSubrange(start..<end, with: Array(pieces.randomElement(using: &generator)!.utf8))
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
