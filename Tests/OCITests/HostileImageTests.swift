import MCFSCore
import Testing

@testable import OCI

@Suite("numbers in manifests and indexes")
struct HostileImageTests {
    private static let digest = "sha256:" + String(repeating: "0", count: 64)

    private static func manifest(size: String) -> [UInt8] {
        Array(#"{"schemaVersion":2,"layers":[{"mediaType":"x","digest":"\#(digest)","size":\#(size)}]}"#.utf8)
    }

    @Test(
        "a size that nothing has is corrupt",
        arguments: [
            "-1", "70368744177665", "9223372036854775807", "18446744073709551615", "1e30", "1e999", "0.5", "null",
            "\"5\"",
        ])
    func sizes(size: String) {
        let error = #expect(throws: MCFSError.self) { try ManifestDocument(Self.manifest(size: size), what: "it") }
        #expect(error?.code == .corrupt)
    }

    @Test("the largest size is one")
    func largest() throws { _ = try ManifestDocument(Self.manifest(size: "70368744177664"), what: "it") }

    @Test("layers are bounded")
    func layers() throws {
        let layer = #"{"mediaType":"x","digest":"\#(Self.digest)","size":1}"#
        func document(_ count: Int) -> [UInt8] {
            Array("{\"layers\":[\(Array(repeating: layer, count: count).joined(separator: ","))]}".utf8)
        }
        _ = try ManifestDocument(document(Manifest.layersMax), what: "it")
        let error = #expect(throws: MCFSError.self) {
            try ManifestDocument(document(Manifest.layersMax + 1), what: "it")
        }
        #expect(error?.code == .unsupported)
    }

    @Test(
        "a variant that is no level is chosen last, and reckoned with never",
        arguments: [
            "v-9223372036854775808", "v9223372036854775807", "v-1", "v256", "v99999999999999999999", "v", "x8", "-8",
            "ü8",
        ])
    func variants(variant: String) throws {
        let digest = try #require(Digest(Self.digest))
        for (architecture, good) in [("amd64", "v2"), ("arm64", "v8"), ("arm", "v6")] {
            let choice = PlatformChoice(host: Platform(os: "linux", architecture: architecture))
            let odd = Descriptor(
                mediaType: "odd", digest: digest, size: 1,
                platform: Platform(os: "linux", architecture: architecture, variant: variant))
            let right = Descriptor(
                mediaType: "right", digest: digest, size: 1,
                platform: Platform(os: "linux", architecture: architecture, variant: good))
            #expect(choice.choose(from: [odd, right])?.mediaType == "right")
            #expect(choice.choose(from: [odd])?.mediaType == "odd")
        }
    }
}

@Suite("what unpacking may take", .timeLimit(.minutes(5)))
struct UnpackingTests {
    private static let magic: [UInt8] = [0x28, 0xb5, 0x2f, 0xfd]

    /// A frame whose window is 2^(10 + exponent) bytes, with one block of a byte that comes `count` times.
    private static func frame(exponent: UInt8, byte: UInt8 = 7, count: UInt32 = 1000) -> [UInt8] {
        let block = count << 3 | 1 << 1 | 1
        return magic + [0, exponent << 3] + (0..<3).map { UInt8(truncatingIfNeeded: block >> ($0 * 8)) } + [byte]
    }

    private func decode(
        _ pieces: [[UInt8]], window: ZstdWindow = ZstdWindow(), memory: ZstdWindowMemory = .shared,
        deadline: Deadline = Deadline(after: .seconds(20))
    ) throws -> [UInt8] {
        let decoder = try ZstdDecoder(name: "it", window, deadline, memory: memory)
        var output: [UInt8] = []
        for piece in pieces {
            try decoder.decode(piece) { bytes throws(MCFSError) in
                output += bytes
                return true
            }
        }
        try decoder.finish()
        return output
    }

    @Test("what a frame asks for is told by its head, however it comes in pieces")
    func heads() {
        for exponent in 0..<22 as Range<UInt8> {
            let frame = Self.frame(exponent: exponent)
            #expect(ZstdWindow.bytes(of: frame) == 1 << (10 + UInt64(exponent)))
            for count in 0..<6 { #expect(ZstdWindow.bytes(of: frame.prefix(count)) == nil) }
        }
        // Single segments: the content is the window, of 1, 2, 4 and 8 bytes.
        #expect(ZstdWindow.bytes(of: Self.magic + [0x20, 5, 0, 0]) == 5)
        #expect(ZstdWindow.bytes(of: Self.magic + [0x60, 0, 1, 0]) == 512)
        #expect(ZstdWindow.bytes(of: Self.magic + [0xa0, 0, 0, 0, 0x80, 0]) == 1 << 31)
        #expect(ZstdWindow.bytes(of: Self.magic + [0xe3, 0, 0, 0, 0] + Array(repeating: 0xff, count: 8)) == .max)
        #expect(ZstdWindow.bytes(of: [0x50, 0x2a, 0x4d, 0x18]) == 0)
    }

    @Test("frames come one after the other, in pieces of any length")
    func pieces() throws {
        let skippable: [UInt8] = [0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]
        let all = Self.frame(exponent: 0, byte: 1) + skippable + Self.frame(exponent: 3, byte: 2, count: 5)
        let right = [UInt8](repeating: 1, count: 1000) + [UInt8](repeating: 2, count: 5)
        for length in 1...all.count {
            let pieces = stride(from: 0, to: all.count, by: length).map { Array(all[$0..<min($0 + length, all.count)]) }
            #expect(try decode(pieces) == right)
        }
        let first = Self.frame(exponent: 0).count
        for count in 1..<all.count where count != first && count != first + skippable.count {
            #expect(throws: MCFSError.self) { try decode([Array(all.prefix(count))]) }
        }
    }

    @Test("a window of more than 2^27 bytes needs the user's word")
    func windows() throws {
        let large = Self.frame(exponent: 18)
        let error = #expect(throws: MCFSError.self) { try decode([large]) }
        #expect(error?.code == .unsupported && error?.message.contains("MCFS_ZSTD_WINDOW_LOG") == true)
        #expect(try decode([large], window: ZstdWindow(Environment(["MCFS_ZSTD_WINDOW_LOG": "28"]))).count == 1000)
        #expect(try decode([Self.frame(exponent: 17)]).count == 1000)
        for text in ["32", "9", "x", "-1"] {
            let error = #expect(throws: MCFSError.self) { try ZstdWindow(Environment(["MCFS_ZSTD_WINDOW_LOG": text])) }
            #expect(error?.code == .configuration)
        }
    }

    @Test("large windows share what memory there is: who comes too late waits until another is done")
    func memory() throws {
        let memory = ZstdWindowMemory(bytesMax: 64 << 20)
        // More than there is, for one alone.
        #expect(try decode([Self.frame(exponent: 17)], memory: memory).count == 1000)
        #expect(memory.take(60 << 20, until: Deadline(after: .zero)))
        let error = #expect(throws: MCFSError.self) {
            try decode([Self.frame(exponent: 14)], memory: memory, deadline: Deadline(after: .milliseconds(20)))
        }
        #expect(error?.code == .timedOut && error?.isTransient == true)
        // Small ones are not counted.
        #expect(try decode([Self.frame(exponent: 13)], memory: memory).count == 1000)
        memory.give(60 << 20)
        // Growing gives back what was taken first.
        #expect(try decode([Self.frame(exponent: 14), Self.frame(exponent: 16)], memory: memory).count == 2000)
        #expect(memory.take(64 << 20, until: Deadline(after: .zero)))
    }

    @Test("next to nothing that unpacks to next to everything is refused, and zeros of a usual size are not")
    func ratio() throws {
        // 128 KiB of four bytes each.
        let block: [UInt8] = [0x02, 0x00, 0x10, 0x00]
        func bomb(_ blocks: Int) -> [UInt8] {
            Self.magic + [0, 7 << 3] + Array(repeating: block, count: blocks).joined()
        }
        let window = ZstdWindow()
        let deadline = Deadline(after: .seconds(60))
        func unpack(_ input: [UInt8]) throws -> UInt64 {
            let decoder = BoundedDecoder(try ZstdDecoder(name: "it", window, deadline), name: "it", freeBytes: 1 << 20)
            var count: UInt64 = 0
            try decoder.decode(input) { bytes throws(MCFSError) in
                count += UInt64(bytes.count)
                return true
            }
            return count
        }
        #expect(try unpack(bomb(7)) == 7 << 17)
        let error = #expect(throws: MCFSError.self) { try unpack(bomb(100)) }
        #expect(error?.code == .unsupported)
    }
}
