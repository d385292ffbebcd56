import Foundation
import GPUCompat
import Glibc
import KernelCaches
import MCFSCore
import Testing

@testable import Inventory

@Suite struct KernelInventoryTests {
    @Test("the caches of every version of Triton are indexed with what their metadata says")
    func fixture() throws {
        let folder = try CacheFolder("cache", "more-targets", "versions")
        let report = try folder.index()
        let kernels = try folder.kernels()
        #expect(report.kernels == 35 && report.added == 35 && report.filesRead == 35 && kernels.count == 35)
        #expect(report.bytes == kernels.reduce(0) { $0 + $1.bytes })
        #expect(kernels.allSatisfy { $0.kind == .triton && $0.problem == nil && $0.hash?.count == 64 })
        #expect(try folder.kernels(KernelFilter(backend: .hip)).count == 13)
        #expect(try folder.kernels(KernelFilter(name: "softmax_kernel")).map(\.arch) == ["100", "90", "80", "gfx942"])

        let key = "C4TUJQOHDPEHSIQ6JRBBUMZXRCX75SVBJIAXB6ARAQ47KRIFZR3Q"
        let kernel = try #require(kernels.first { $0.pathText.hasSuffix(key) })
        #expect(kernel.hash == "172744c1c71bc879221e4c421a333788affecaa14a0170f8110439f54505cc77")
        #expect(kernel.name == "add_kernel" && kernel.backend == "cuda" && kernel.arch == "80" && kernel.warpSize == 32)
        #expect(kernel.tritonVersion == "3.6.0" && kernel.numWarps == 4 && kernel.hits == 0 && kernel.lastHit == nil)
        let sizes = try folder.names("cache/\(key)").map { name in
            (name, try Data(contentsOf: URL(fileURLWithPath: "\(folder.path)/cache/\(key)/\(name)")).count)
        }
        #expect(kernel.bytes == UInt64(sizes.reduce(0) { $0 + $1.1 }))
        let isIR = { (name: String) in !name.hasSuffix(".json") && !name.hasSuffix(".cubin") }
        #expect(kernel.irBytes == UInt64(sizes.filter { isIR($0.0) }.reduce(0) { $0 + $1.1 }))
    }

    @Test("a second look reads nothing, a third one what is new and what was changed")
    func incremental() throws {
        let folder = try CacheFolder("cache")
        #expect(try folder.index().filesRead == 12)
        let before = try folder.kernels()
        let again = try folder.index()
        #expect(again == IndexReport(place: folder.path, kernels: 12, bytes: again.bytes))
        #expect(try folder.kernels() == before)

        try folder.writeKernel(key(1))
        let changed = String(try #require(before.first).pathText.dropFirst(folder.path.count + 1))
        let name = try #require(before.first?.name)
        // In place: the directory stays as it was.
        try folder.write("\(changed)/\(name).json", "{}")
        let third = try folder.index()
        #expect(third.filesRead == 2 && third.added == 1 && third.changed == 1 && third.removed == 0)
        #expect(third.kernels == 13)
        #expect(try folder.kernels().first { $0.pathText.hasSuffix(changed) }?.problem != nil)
    }

    @Test("a file that comes into an entry is counted the next time")
    func grows() throws {
        let folder = try CacheFolder()
        try folder.writeKernel(key(1))
        try folder.index()
        let before = try #require(try folder.kernels().first)
        try folder.write("cache/\(key(1))/kernel.llir", "more")
        let report = try folder.index()
        #expect(report.changed == 1 && report.filesRead == 1)
        #expect(try folder.kernels().map(\.bytes) == [before.bytes + 4])
        #expect(try folder.kernels().map(\.irBytes) == [before.irBytes + 4])
    }

    @Test("what was changed a moment ago is looked at again, because it may change once more in the same tick")
    func unsettled() throws {
        let folder = try CacheFolder()
        try folder.writeKernel(key(1))
        for _ in 0..<2 { #expect(try folder.inventory.index(folder: folder.path, now: .now).filesRead == 1) }
        try folder.index()
        #expect(try folder.index().filesRead == 0)
    }

    @Test("entries that are gone disappear, and the hits of the others stay")
    func hits() throws {
        let folder = try CacheFolder()
        for number in 1...3 { try folder.writeKernel(key(number)) }
        try folder.index()
        let path = { (number: Int) in Array("\(folder.path)/cache/\(key(number))".utf8) }
        try folder.inventory.record(hits: [(path(1), 7, 1000), (path(2), 1, nil), (path(9), 5, 5)])
        // Fewer than before: a mount that began to count anew.
        try folder.inventory.record(hits: [(path(1), 2, 2000)])
        try folder.remove("cache/\(key(3))")
        try folder.write("cache/\(key(1))/kernel.json", "{")
        #expect(try folder.index().removed == 1)
        let kernels = try folder.kernels()
        #expect(kernels.map(\.hits) == [7, 1] && kernels.map(\.lastHit) == [2000, nil])
        #expect(kernels[0].problem != nil)
        #expect(try folder.paths(KernelFilter(hitsBelow: 5)) == ["cache/\(key(2))"])
        #expect(try KernelInventory(path: folder.databasePath).kernels(matching: KernelFilter()) == kernels)
    }

    @Test("a folder that is gone is forgotten, and one that was never known is an error")
    func vanished() throws {
        let folder = try CacheFolder("cache")
        try folder.index()
        try folder.remove("")
        let report = try folder.index()
        #expect(report.removed == 12 && report.kernels == 0)
        #expect(try folder.inventory.roots().isEmpty && folder.kernels().isEmpty)
        let error = #expect(throws: MCFSError.self) { try folder.index() }
        #expect(error?.code == .notFound)
    }

    @Test("a kernel is listed once, whichever of its folders were indexed")
    func nested() throws {
        let folder = try CacheFolder("cache", "more-targets")
        try folder.index("cache")
        try folder.index("more-targets")
        #expect(try folder.inventory.roots().map(\.place) == ["\(folder.path)/cache", "\(folder.path)/more-targets"])
        let hit = try #require(try folder.kernels().first)
        try folder.inventory.record(hits: [(hit.path, 4, 4)])
        #expect(try folder.index().added == 0)
        #expect(try folder.inventory.roots().map(\.place) == [folder.path])
        #expect(try folder.kernels().count == 20 && folder.kernels(KernelFilter(hitsAbove: 3)).count == 1)
        try folder.index("cache")
        #expect(try folder.inventory.roots().map(\.place) == [folder.path])
        #expect(try folder.kernels().count == 20)
        #expect(try folder.kernels(KernelFilter(place: "\(folder.path)/cache")).count == 12)
    }

    @Test("a folder whose name begins with another's is not in it")
    func neighbours() throws {
        let folder = try CacheFolder()
        try folder.writeKernel(key(1), in: "a")
        try folder.writeKernel(key(2), in: "a0")
        try folder.writeKernel(key(3), in: "a-b")
        for name in ["a", "a0", "a-b"] { try folder.index(name) }
        #expect(try folder.inventory.roots().count == 3)
        #expect(try folder.kernels(KernelFilter(place: "\(folder.path)/a")).count == 1)
        try folder.remove("a")
        #expect(try folder.index("a").removed == 1)
        #expect(try folder.kernels().count == 2)
    }

    @Test("vLLM's, FlashInfer's and DeepGEMM's caches are indexed, each file counted once")
    func otherCaches() throws {
        let folder = try CacheFolder()
        let hash = "vllm/torch_compile_cache/0123456789"
        try folder.writeKernel(key(1), in: "\(hash)/rank_0_0/triton_cache")
        try folder.write("\(hash)/rank_0_0/vllm_compile_cache.py", "12345")
        try folder.write(
            "vllm/torch_compile_cache/abcdef0123/rank_0_0/backbone/artifact_compile_range_1_2_subgraph_0", "1234567")
        try folder.write("flashinfer/0.2.1/80_90a/cached_ops/op/op.so", "123")
        try folder.write("deep/cache/kernel.gemm.0a1b/kernel.cubin", "no ELF")
        try folder.index()
        let kernels = try folder.kernels()
        #expect(kernels.map(\.kind) == [.deepgemm, .flashinfer, .vllm, .triton, .vllm])
        #expect(kernels.map(\.arch) == [nil, "80,90a", nil, "90", nil])
        #expect(kernels[2].bytes == 5 && kernels[4].bytes == 7 && kernels[1].bytes == 3)
        // They are told by their place, even where only the innermost folder is named.
        let other = try CacheFolder()
        try other.write("torch_compile_cache/abcdef0123/rank_0_0/backbone/artifact", "1")
        #expect(try other.index("torch_compile_cache").kernels == 1)
        #expect(try other.index("torch_compile_cache/abcdef0123").kernels == 1)
        #expect(try other.index("torch_compile_cache/abcdef0123/rank_0_0").kernels == 0)
    }

    @Test("a reference's kernels are replaced by what its tree has now")
    func reference() throws {
        let folder = try CacheFolder()
        let reference = "oci://host/team/cache:v1"
        func kernel(_ name: String) -> IndexedKernel {
            IndexedKernel(path: Array("\(reference)/\(name)".utf8), kind: .triton, modified: 1, bytes: 2, irBytes: 1)
        }
        #expect(try folder.inventory.record([kernel("a"), kernel("b")], of: reference).added == 2)
        try folder.inventory.record(hits: [(kernel("b").path, 3, 3)])
        let report = try folder.inventory.record([kernel("b"), kernel("c")], of: reference)
        #expect(report.added == 1 && report.changed == 0 && report.removed == 1 && report.kernels == 2)
        #expect(try folder.kernels().map(\.hits) == [3, 0])
        #expect(try folder.inventory.roots().map(\.isReference) == [true])
    }

    @Test("a folder that cannot be listed is told, and the rest is indexed")
    func unreadable() throws {
        let folder = try CacheFolder("cache")
        try folder.write("deep" + String(repeating: "/d", count: FolderScan.depthMax) + "/file", "")
        let report = try folder.index()
        #expect(report.warnings.count == 1 && report.kernels == 12)
    }

    @Test("kernels come in the order that is asked for")
    func orders() throws {
        let folder = try CacheFolder("cache", "more-targets", "versions")
        try folder.index()
        func kernels(_ order: KernelOrder) throws -> [IndexedKernel] {
            try folder.inventory.kernels(matching: KernelFilter(), sortedBy: order)
        }
        #expect(try kernels(.name).map { $0.name ?? "" } == kernels(.name).map { $0.name ?? "" }.sorted())
        #expect(try kernels(.size).map(\.bytes) == kernels(.size).map(\.bytes).sorted(by: >))
        #expect(try kernels(.age).map(\.modified) == kernels(.age).map(\.modified).sorted(by: >))
        #expect(try kernels(.path).map(\.pathText) == kernels(.path).map(\.pathText).sorted())
        #expect(try kernels(.arch).compactMap(\.arch).prefix(3) == ["75", "80", "80"])
    }
}
