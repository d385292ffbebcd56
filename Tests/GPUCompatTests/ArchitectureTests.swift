import Foundation
import Testing

@testable import GPUCompat

@Suite("Names of architectures")
struct ArchitectureTests {
    @Test(
        "an architecture is read in every spelling, and printed in one",
        arguments: [
            ("sm_90", "sm_90"), ("sm90", "sm_90"), ("SM_90A", "sm_90a"), ("sm90a", "sm_90a"), ("90", "sm_90"),
            ("90a", "sm_90a"), ("compute_100f", "sm_100f"), ("9.0", "sm_90"), ("12.1", "sm_121"), ("9.0a", "sm_90a"),
            ("gfx942", "gfx942"), ("GFX90A", "gfx90a"), ("gfx1100", "gfx1100"), ("gfx90c", "gfx90c"),
            ("gfx90a:xnack-", "gfx90a:xnack-"), ("gfx90a:xnack-:sramecc+", "gfx90a:sramecc+:xnack-"),
            ("gfx11-generic", "gfx11-generic"), ("gfx9-4-generic:xnack+", "gfx9-4-generic:xnack+"),
        ])
    func read(text: String, canonical: String) {
        #expect(Architecture(text)?.description == canonical)
        #expect(Architecture(canonical)?.description == canonical)
    }

    @Test(
        "other texts are none",
        arguments: [
            "", " ", "sm_", "sm_9", "sm_90x", "sm_90aa", "sm_ 90", "sm_9000", "-90", "9.", ".9", "9.00", "9.0.0",
            "4090",
            "1_0_0", "٩٠", "a", "f", "gfx", "gfx9", "gfx90g", "gfxa0a", "gfx90a:", "gfx90a:xnack", "gfx90a:xnack*",
            "gfx90a:xnack+:xnack-", "gfx90a:wavefrontsize64+", "gfx-generic", "gfx9-4-3-generic", "gfx9--generic",
            "gfx12345678", "h100", "amdgcn-amd-amdhsa--gfx942",
        ])
    func others(text: String) { #expect(Architecture(text) == nil) }

    @Test("major, minor, warp size and back end follow from the name")
    func properties() throws {
        let blackwell = try #require(CUDAArchitecture("sm_121a"))
        #expect(blackwell.major == 12 && blackwell.minor == 1 && blackwell.suffix == .a)
        let sizes = [
            "sm_90": 32, "gfx90a": 64, "gfx9-4-generic": 64, "gfx1030": 32, "gfx11-generic": 32, "gfx1201": 32,
        ]
        for (text, warpSize) in sizes {
            let architecture = try #require(Architecture(text))
            #expect(architecture.warpSize == warpSize, "\(text)")
            #expect(architecture.backend == (text.hasPrefix("sm") ? .cuda : .hip))
        }
    }

    @Test("versions compare by number, not by text")
    func versions() throws {
        #expect(try #require(PTXVersion("8.10")) > #require(PTXVersion("8.9")))
        #expect(try #require(CUDAVersion("13.0")) > #require(CUDAVersion("12.9")))
        for text in ["", "8", "8.", ".4", "8.4.1", "8.x", "-1.0", "99999.0"] { #expect(PTXVersion(text) == nil) }
    }
}

/// A kernel of an architecture in text.
func target(_ text: String, _ form: KernelTarget.Form, warpSize: Int? = nil) throws -> KernelTarget {
    KernelTarget(architecture: try #require(Architecture(text)), form: form, warpSize: warpSize)
}

/// A GPU of an architecture in text, with its driver's CUDA.
func gpu(_ text: String, _ name: String = "", cuda: String? = nil, driver: String? = nil) throws -> GPU {
    let architecture = try #require(Architecture(text))
    return GPU(
        index: 0, vendor: architecture.vendor, name: name, architecture: architecture, driver: driver,
        cudaVersion: cuda.flatMap { CUDAVersion($0) })
}
