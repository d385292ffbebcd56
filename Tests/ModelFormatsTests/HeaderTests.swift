import Foundation
import MCFSCore
import Testing

@testable import ModelFormats

@Suite("Headers of weight files", .timeLimit(.minutes(5)))
struct HeaderTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("Fixtures/models")

    static func bytes(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: folder.appendingPathComponent(name)))
    }

    /// Reads a header as a mount does: with what it asks for, until it knows.
    static func read(_ format: ModelFormat, _ bytes: [UInt8], fileSize: UInt64? = nil) -> ModelFormat.Reading {
        let size = fileSize ?? UInt64(bytes.count)
        var count = format.firstBytes(fileSize: size)
        while true {
            let reading = bytes.prefix(Int(count)).withUnsafeBytes { format.read($0, fileSize: size) }
            guard case .needs(let more) = reading else { return reading }
            #expect(more > count && more <= size)
            guard more > count, more <= bytes.count else { return reading }
            count = more
        }
    }

    static func safetensors(_ header: String, data: Int = 0) -> [UInt8] {
        withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian, Array.init) + Array(header.utf8)
            + [UInt8](repeating: 1, count: data)
    }

    @Test(
        "files of the formats' own libraries have their tensors where those say",
        arguments: ["tiny.safetensors", "tiny.gguf", "aligned.gguf"])
    func real(name: String) throws {
        let bytes = try Self.bytes(name)
        let starts = try JSONDecoder().decode([String: [UInt64]].self, from: Data(try Self.bytes("starts.json")))
        let wanted = try #require(starts[name])
        let format = try #require(ModelFormat(fileName: name.utf8))
        guard case .layout(let layout) = Self.read(format, bytes) else {
            Issue.record("there is no layout")
            return
        }
        #expect(layout.count == wanted.count)
        #expect(layout.tensor(holding: wanted[0] - 1) == nil)
        #expect(layout.tensor(holding: UInt64(bytes.count)) == nil)
        for (index, start) in wanted.enumerated() {
            let end = index + 1 < wanted.count ? wanted[index + 1] : UInt64(bytes.count)
            #expect(layout.tensor(holding: start) == ByteRange(start, end))
            #expect(layout.tensor(holding: end - 1) == ByteRange(start, end))
        }
    }

    @Test("a format is known by the end of a name")
    func names() {
        #expect(ModelFormat(fileName: "a.safetensors".utf8) == .safetensors)
        #expect(ModelFormat(fileName: "a.gguf".utf8) == .gguf)
        for name in ["safetensors", ".gguf", "a.bin", "", "a.gguf.part", "a.safetensors.index.json"] {
            #expect(ModelFormat(fileName: name.utf8) == nil, "\(name)")
        }
    }

    @Test(
        "what is no header has no layout",
        arguments: [
            "", "{", "[]", "{}", "{\"a\":{\"data_offsets\":[0,9]}}", "{\"a\":{\"data_offsets\":[4,1]}}",
            "{\"a\":{\"data_offsets\":[-1,1]}}", "{\"a\":{\"data_offsets\":[0,18446744073709551615]}}",
            "{\"a\":{\"data_offsets\":[0,99999999999999999999]}}", "{\"a\":{\"data_offsets\":[0]}}",
            "{\"a\":{\"data_offsets\":[0,1]}", "{\"a\":{\"data_offsets\":{}}}", "{\"a\":7}", "{\"a\":\"\\",
            "{\"__metadata__\":" + String(repeating: "[", count: 5000) + "}",
        ])
    func hostile(header: String) { #expect(Self.read(.safetensors, Self.safetensors(header, data: 8)) == .unknown) }

    @Test("names and metadata that look like offsets are none")
    func lookalikes() {
        let header =
            "{ \"__metadata__\" : {\"data_offsets\":\"[3,4]\"}, \"data_offsets\": {\"shape\":[1,[2]], \"data_offsets\" : [ 0 , 8 ], \"x\":null} }  "
        guard case .layout(let layout) = Self.read(.safetensors, Self.safetensors(header, data: 8)) else {
            Issue.record("there is no layout")
            return
        }
        #expect(layout.count == 1)
    }

    @Test("lengths that lie ask for nothing beyond the file or the bound")
    func lengths() {
        for length in [0, 1, 9, 1 << 20, ModelFormat.headerBytesMax, .max - 7, .max] as [UInt64] {
            let bytes = withUnsafeBytes(of: length.littleEndian, Array.init)
            #expect(Self.read(.safetensors, bytes, fileSize: 8) == .unknown)
            let reading = Self.read(.safetensors, bytes, fileSize: 1 << 40)
            if case .needs(let count) = reading { #expect(count <= ModelFormat.headerBytesMax) }
        }
        #expect(Self.read(.safetensors, [], fileSize: 0) == .unknown)
        #expect(Self.read(.gguf, [], fileSize: 0) == .unknown)
    }

    @Test("a file cut short anywhere asks for more or is unknown", arguments: ["tiny.safetensors", "tiny.gguf"])
    func truncated(name: String) throws {
        let bytes = try Self.bytes(name)
        let format = try #require(ModelFormat(fileName: name.utf8))
        let starts = try JSONDecoder().decode([String: [UInt64]].self, from: Data(try Self.bytes("starts.json")))
        let header = Int(try #require(starts[name]?.first))
        for count in 0..<header - 32 {
            let reading = bytes.prefix(count).withUnsafeBytes { format.read($0, fileSize: UInt64(bytes.count)) }
            guard case .needs = reading else {
                Issue.record("\(count) bytes: \(reading)")
                return
            }
            // The same as a whole file.
            if case .layout = Self.read(format, Array(bytes.prefix(count))) { Issue.record("\(count) bytes") }
        }
    }

    @Test("damaged files never crash, and a layout stays in the file", arguments: ["tiny.safetensors", "tiny.gguf"])
    func damaged(name: String) throws {
        let bytes = try Self.bytes(name)
        let format = try #require(ModelFormat(fileName: name.utf8))
        var random = SplitMix(state: 20_261_121)
        for _ in 0..<20_000 {
            var damaged = bytes
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                damaged[Int.random(in: 0..<min(damaged.count, 1500), using: &random)] = UInt8.random(
                    in: 0...255, using: &random)
            }
            guard case .layout(let layout) = Self.read(format, damaged) else { continue }
            for offset in stride(from: 0, to: UInt64(damaged.count), by: 97) {
                guard let tensor = layout.tensor(holding: offset) else { continue }
                #expect(tensor.contains(ByteRange(offset, offset + 1)) && tensor.upperBound <= damaged.count)
            }
        }
    }

    @Test("a header of many tensors is read in one go")
    func large() {
        var header = "{"
        for index in 0..<50_000 {
            header +=
                "\"model.layers.\(index).weight\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[\(index * 2),\(index * 2 + 2)]},"
        }
        header += "\"last\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[100000,100002]}}"
        guard case .layout(let layout) = Self.read(.safetensors, Self.safetensors(header, data: 100_002)) else {
            Issue.record("there is no layout")
            return
        }
        #expect(layout.count == 50_001)
    }
}

/// A generator that gives the same numbers for the same seed.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
