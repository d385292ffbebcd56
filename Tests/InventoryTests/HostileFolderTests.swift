import Foundation
import Glibc
import KernelCaches
import MCFSCore
import Testing

@testable import Inventory

/// Folders that anybody may have filled.
@Suite struct HostileFolderTests {
    @Test(
        "metadata that tells nothing leaves a kernel of which nothing is known",
        arguments: [
            "", "{", "[]", "null", "{\"target\": 5}", "{\"target\": {}}", "{\"target\": {\"backend\": \"cuda\"}}",
            "{\"target\": {\"backend\": \"cuda\", \"arch\": 0, \"warp_size\": 32}}",
            "{\"target\": {\"backend\": \"metal\", \"arch\": 3, \"warp_size\": 32}}",
            "{\"target\": {\"backend\": \"cuda\", \"arch\": -1e99, \"warp_size\": \"\"}}",
            "{\"target\": {\"backend\": \"hip\", \"arch\": \"gfx\", \"warp_size\": 64}}",
            String(repeating: "[", count: 100_000), "{\"name\": \"\\ud800\"}", "{\"hash\": 1, \"hash\": 2}",
            "\u{0}\u{1}",
        ])
    func metadata(text: String) throws {
        let folder = try CacheFolder()
        try folder.writeKernel(key(1))
        try folder.write("cache/\(key(1))/kernel.json", text)
        try folder.index()
        let kernel = try #require(try folder.kernels().first)
        #expect(kernel.problem != nil && kernel.arch == nil)
        #expect(try folder.index().filesRead == 0)
    }

    @Test("metadata that is truncated anywhere is read without harm")
    func truncated() throws {
        let folder = try CacheFolder("cache")
        let path = "cache/C4TUJQOHDPEHSIQ6JRBBUMZXRCX75SVBJIAXB6ARAQ47KRIFZR3Q/add_kernel.json"
        let text = try folder.read(path)
        for length in stride(from: 0, to: text.utf8.count, by: 37) {
            try folder.write(path, String(text.utf8.prefix(length)) ?? "")
            try folder.index()
            #expect(try folder.kernels().count { $0.problem != nil } == 1)
        }
    }

    @Test("a file of metadata of a GiB is not read")
    func huge() throws {
        let folder = try CacheFolder()
        try folder.writeKernel(key(1))
        #expect(truncate("\(folder.path)/cache/\(key(1))/kernel.json", 1 << 30) == 0)
        let report = try folder.index()
        #expect(report.filesRead == 0 && report.kernels == 1 && report.bytes > 1 << 30)
        #expect(try folder.kernels().first?.problem?.contains("too large") ?? false)
    }

    @Test("names may hold any bytes, and paths are kept as they are")
    func names() throws {
        let folder = try CacheFolder()
        try folder.writeKernel(key(1), name: "k\\n\\u0000\\\"")
        let odd: [UInt8] = [0xff, 0xfe, 0x0a, 0x22, 0x2a]
        let name = odd.map { CChar(bitPattern: $0) } + [0]
        let place = Array(folder.path.utf8CString.dropLast()) + [0x2f] + name
        #expect(rename("\(folder.path)/cache", place) == 0)
        try folder.index()
        let kernel = try #require(try folder.kernels().first)
        #expect(kernel.path == Array("\(folder.path)/".utf8) + odd + Array("/\(key(1))".utf8))
        #expect(kernel.name?.hasPrefix("k\n") ?? false)
        #expect(try folder.index().filesRead == 0)
        #expect(rename(place, "\(folder.path)/cache") == 0)
    }

    @Test("links are not followed, and nothing but files is read")
    func links() throws {
        let folder = try CacheFolder()
        try folder.writeKernel(key(1), in: "elsewhere")
        try FileManager.default.createDirectory(
            atPath: "\(folder.path)/cache/\(key(2))", withIntermediateDirectories: true)
        #expect(symlink("\(folder.path)/elsewhere", "\(folder.path)/cache/link") == 0)
        #expect(
            symlink("\(folder.path)/elsewhere/\(key(1))/kernel.json", "\(folder.path)/cache/\(key(2))/kernel.json") == 0
        )
        #expect(mkfifo("\(folder.path)/cache/\(key(2))/fifo.json", 0o600) == 0)
        #expect(symlink("..", "\(folder.path)/cache/\(key(2))/loop") == 0)
        #expect(try folder.index("cache").kernels == 0)
        #expect(try folder.index("elsewhere").kernels == 1)
    }

    @Test("a file that is no folder is an error")
    func noFolder() throws {
        let folder = try CacheFolder()
        try folder.write("file", "")
        let error = #expect(throws: MCFSError.self) { try folder.index("file") }
        #expect(error?.code == .notFound)
    }
}
