import GPUCompat
import KernelCaches
import MCFSCore
import Testing

@testable import Inventory

private func arch(_ name: String) -> Architecture {
    guard let architecture = try? GPUSpec.architecture(named: name) else { preconditionFailure(name) }
    return architecture
}

@Suite struct KernelFilterTests {
    private static let now: Int64 = 1_000_000_000

    private static func kernel(_ change: (inout IndexedKernel) -> Void = { _ in }) -> IndexedKernel {
        var kernel = IndexedKernel(
            path: Array("/caches/a/K".utf8), kind: .triton, modified: now - 3 * 86_400, bytes: 10, irBytes: 5)
        kernel.name = "matmul_kernel"
        kernel.backend = "cuda"
        kernel.arch = "90"
        kernel.hits = 3
        change(&kernel)
        return kernel
    }

    @Test(
        "a kernel that fulfils all that is asked for is meant",
        arguments: [
            KernelFilter(), KernelFilter(name: "matmul_kernel"), KernelFilter(name: "matmul*"), KernelFilter(name: "*"),
            KernelFilter(name: "m?tmul_[a-k]ernel"), KernelFilter(backend: .cuda), KernelFilter(arch: arch("90")),
            KernelFilter(arch: arch("sm_90")), KernelFilter(arch: arch("SM90")), KernelFilter(arch: arch("9.0")),
            KernelFilter(arch: arch("H100")), KernelFilter(arch: arch("NVIDIA H200")),
            KernelFilter(olderThan: Age("2d")), KernelFilter(youngerThan: Age("1w")),
            KernelFilter(olderThan: Age("71h"), youngerThan: Age("73h")), KernelFilter(hitsBelow: 4),
            KernelFilter(hitsAbove: 2), KernelFilter(hitsBelow: 4, hitsAbove: 2), KernelFilter(place: "/caches"),
            KernelFilter(place: "/caches/a/K"), KernelFilter(place: "/"),
        ])
    func matches(filter: KernelFilter) throws {
        try filter.check()
        #expect(filter.matches(Self.kernel(), now: Self.now))
    }

    @Test(
        "a kernel that fulfils one of them not is not",
        arguments: [
            KernelFilter(name: "matmul"), KernelFilter(name: "MATMUL_KERNEL"), KernelFilter(name: ""),
            KernelFilter(backend: .hip), KernelFilter(arch: arch("sm_90a")), KernelFilter(arch: arch("gfx942")),
            KernelFilter(olderThan: Age("3d")), KernelFilter(youngerThan: Age("3d")), KernelFilter(hitsBelow: 3),
            KernelFilter(hitsAbove: 3), KernelFilter(place: "/caches/a/K2"), KernelFilter(place: "/cache"),
            KernelFilter(place: "/caches/a/K/more"), KernelFilter(name: "matmul*", backend: .cuda, arch: arch("80")),
        ])
    func refuses(filter: KernelFilter) { #expect(!filter.matches(Self.kernel(), now: Self.now)) }

    @Test("what is not known of a kernel is never what is asked for")
    func unknown() {
        let kernel = Self.kernel {
            ($0.name, $0.backend, $0.arch) = (nil, nil, nil)
        }
        #expect(KernelFilter().matches(kernel, now: Self.now))
        for filter in [KernelFilter(name: "*"), KernelFilter(backend: .cuda), KernelFilter(arch: arch("90"))] {
            #expect(!filter.matches(kernel, now: Self.now))
        }
    }

    @Test("hip is found by both of its names, and a kernel for several architectures by each")
    func spellings() {
        for spelling in ["hip", "rocm"] {
            let kernel = Self.kernel { ($0.backend, $0.arch) = (spelling, "gfx942") }
            #expect(KernelFilter(backend: .hip, arch: arch("gfx942")).matches(kernel, now: Self.now))
        }
        let several = Self.kernel { $0.arch = "80,90a" }
        #expect(KernelFilter(arch: arch("sm_80")).matches(several, now: Self.now))
        #expect(KernelFilter(arch: arch("90a")).matches(several, now: Self.now))
        #expect(!KernelFilter(arch: arch("90")).matches(several, now: Self.now))
    }

    @Test("a name with the signs of a glob in it is found as it is")
    func literal() {
        let kernel = Self.kernel { $0.name = "k[0]" }
        #expect(KernelFilter(name: "k[0]").matches(kernel, now: Self.now))
    }

    @Test(
        "a time at either end of all times is very old or very young", arguments: [Int64.min, .min + 1, .max, .max - 1])
    func extremeTimes(modified: Int64) {
        let kernel = IndexedKernel(path: Array("/k".utf8), kind: .triton, modified: modified, bytes: 1, irBytes: 0)
        for now in [Self.now, 0, -1] {
            #expect(KernelFilter(olderThan: Age("2w")).matches(kernel, now: now) == (modified < 0))
            #expect(KernelFilter(youngerThan: Age("2w")).matches(kernel, now: now) == (modified > 0))
            #expect(!KernelFilter(olderThan: Age("2w")).reasons(kernel, now: now).isEmpty)
        }
    }

    @Test(
        "what nothing can fulfil is an error of usage",
        arguments: [
            KernelFilter(olderThan: Age("1w"), youngerThan: Age("7d")),
            KernelFilter(olderThan: Age("2w"), youngerThan: Age("7d")), KernelFilter(hitsBelow: 0),
            KernelFilter(hitsBelow: 3, hitsAbove: 2), KernelFilter(hitsBelow: 1, hitsAbove: .max),
        ])
    func contradictions(filter: KernelFilter) {
        let error = #expect(throws: MCFSError.self) { try filter.check() }
        #expect(error?.code == .usage)
    }
}
