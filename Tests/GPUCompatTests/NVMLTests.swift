import Foundation
import MCFSCore
import Testing

@testable import GPUCompat

@Suite("NVML", .timeLimit(.minutes(5)))
struct NVMLTests {
    /// What a probe of an otherwise empty host finds.
    private func find(_ stub: NVMLStub, _ tree: HostTree = HostTree()) -> GPUFindings {
        GPUProbe(root: tree.path, nvmlLibrary: stub.library).find(within: .seconds(60))
    }

    @Test("two GPUs are found with all that NVML says")
    func twoGPUs() throws {
        let findings = find(try NVMLStub())
        #expect(findings.problems.isEmpty && findings.isComplete && findings.sources == [.nvml])
        #expect(findings.gpus.map(\.index) == [0, 1])
        #expect(findings.gpus.map(\.uuid) == ["GPU-0", "GPU-1"])
        #expect(findings.gpus.map(\.pci) == ["0000:3b:00.0", "10000:3c:00.0"])
        let gpu = findings.gpus[0]
        #expect(gpu.vendor == .nvidia && gpu.name == "NVIDIA H100 80GB HBM3" && gpu.target == "sm_90")
        #expect(gpu.warpSize == 32 && gpu.memoryBytes == 85_520_809_984)
        #expect(gpu.driver == "570.86.15" && gpu.cudaVersion == CUDAVersion(major: 12, minor: 8))
        #expect(!gpu.isMIG && !gpu.isAssumed)
    }

    @Test("a probe may ask again and again, and unloads the library each time")
    func again() throws {
        let stub = try NVMLStub()
        let probe = GPUProbe(root: "/nonexistent", nvmlLibrary: stub.library)
        for _ in 0..<20 { #expect(probe.find(within: .seconds(60)).gpus.count == 2) }
        #expect(try !String(contentsOfFile: "/proc/self/maps", encoding: .utf8).contains(stub.path))
    }

    @Test("MIG instances stand in place of their GPU, and compute as it does")
    func mig() throws {
        let findings = find(try NVMLStub("MIG=7"))
        #expect(findings.gpus.map(\.uuid) == ["MIG-0-1", "MIG-0-3", "MIG-0-5", "GPU-1"])
        #expect(findings.gpus.map(\.migOf) == ["GPU-0", "GPU-0", "GPU-0", nil])
        #expect(findings.gpus.allSatisfy { $0.target == "sm_90" })
        #expect(findings.gpus[0].name == "NVIDIA H100 80GB HBM3 MIG 1g.10gb")
        #expect(findings.gpus[0].memoryBytes == 10_200_547_328)
    }

    @Test("MIG that is on without an instance is a problem, and the GPU is shown")
    func emptyMIG() throws {
        let findings = find(try NVMLStub("MIG=1"))
        #expect(findings.gpus.map(\.uuid) == ["GPU-0", "GPU-1"])
        #expect(findings.problems.count == 1 && findings.problems[0].contains("nvidia-smi mig -cgi"))
    }

    @Test("counts that no host has are bounded")
    func hostileCounts() throws {
        let findings = find(try NVMLStub("COUNT=4294967295u", "MIG=4294967295u"))
        #expect(findings.gpus.count == 63 + 8)
        #expect(findings.problems == ["NVML reports 4294967295 GPUs; the first 64 are looked at"])
        #expect(!findings.isComplete)
    }

    @Test("a driver without the newer names of functions is asked by the older ones")
    func oldNames() throws { #expect(find(try NVMLStub("OLD_NAMES")).gpus.map(\.uuid) == ["GPU-0", "GPU-1"]) }

    @Test("a driver that lacks what is not needed leaves it open")
    func bare() throws {
        let findings = find(try NVMLStub("BARE"))
        #expect(findings.gpus.map(\.target) == ["sm_90", "sm_90"])
        let gpu = findings.gpus[0]
        #expect(gpu.name == "NVIDIA GPU" && gpu.uuid == nil && gpu.pci == nil && gpu.memoryBytes == 0)
    }

    @Test(
        "without a compute capability the name tells",
        arguments: ["NO_CAPABILITY", "CAPABILITY=-1", "CAPABILITY=0x7fffffff"])
    func noCapability(definition: String) throws {
        let findings = find(try NVMLStub(definition))
        #expect(findings.gpus.map(\.target) == ["sm_90", "sm_90"])
        #expect(findings.isComplete)
    }

    @Test("a GPU of which nobody knows what it is, is a problem: nothing may be hidden then")
    func unknownArchitecture() throws {
        let findings = find(try NVMLStub("BARE", "NO_CAPABILITY"))
        #expect(findings.gpus.isEmpty && !findings.isComplete && findings.problems.count == 2)
    }

    @Test("a driver that lacks what is needed is refused, not called", arguments: ["NO_INIT", "NO_COUNT"])
    func missingSymbols(definition: String) throws {
        let findings = find(try NVMLStub(definition))
        #expect(findings.gpus.isEmpty)
        #expect(findings.problems.count == 1 && findings.problems[0].hasPrefix("NVML is there but lacks nvml"))
    }

    @Test("texts without an end, end with their buffer")
    func unterminated() throws {
        let gpu = try #require(find(try NVMLStub("UNTERMINATED")).gpus.first)
        #expect(gpu.name == String(repeating: "X", count: 96) && gpu.uuid == gpu.name && gpu.driver == gpu.name)
        let problem = try #require(find(try NVMLStub("UNTERMINATED", "INIT_STATUS=7")).problems.first)
        #expect(problem == "NVML is there but reports error 7 (\(String(repeating: "E", count: 128)))")
    }

    @Test("a CUDA version that is none is left open", arguments: ["CUDA=0", "CUDA=-12080", "CUDA=0x7fffffff"])
    func cudaVersion(definition: String) throws {
        #expect(find(try NVMLStub(definition)).gpus.map(\.cudaVersion) == [nil, nil])
    }

    @Test("error 18 says what happened and what to do; /proc tells the GPUs then")
    func versionMismatch() throws {
        let tree = HostTree()
        try tree.write("proc/driver/nvidia/version", NVIDIAFilesTests.version)
        try tree.write("proc/driver/nvidia/gpus/0000:3b:00.0/information", NVIDIAFilesTests.information)
        let findings = find(try NVMLStub("INIT_STATUS=18"), tree)
        #expect(
            findings.problems == [
                "NVML is there but reports error 18 (Driver/library version mismatch): the driver was upgraded and the "
                    + "kernel module is still the old one; reboot"
            ])
        #expect(findings.gpus.map(\.target) == ["sm_90"])
        #expect(findings.sources == [.proc] && findings.isComplete)
    }

    @Test("one GPU that is lost is a problem of its own; one that is not permitted is not there")
    func oneGPUFails() throws {
        let lost = find(try NVMLStub("HANDLE_STATUS=15"))
        #expect(lost.gpus.map(\.uuid) == ["GPU-0"])
        #expect(!lost.isComplete)
        #expect(lost.problems.count == 1 && lost.problems[0].hasPrefix("NVIDIA GPU 1: error 15: the GPU has fallen"))
        let denied = find(try NVMLStub("HANDLE_STATUS=4"))
        #expect(denied.gpus.map(\.uuid) == ["GPU-0"])
        #expect(denied.isComplete && denied.problems.isEmpty)
    }

    @Test(
        "a hang is given up at the deadline, is not asked again, and is forgotten once it ends",
        arguments: ["HANG_INIT", "HANG_DEVICE"])
    func hang(definition: String) throws {
        let stub = try NVMLStub(definition)
        let tree = HostTree()
        try tree.write("proc/driver/nvidia/version", NVIDIAFilesTests.version)
        try tree.write("proc/driver/nvidia/gpus/0000:3b:00.0/information", NVIDIAFilesTests.information)
        try tree.writeNode(1, KFDSample.mi300x)
        let probe = GPUProbe(root: tree.path, nvmlLibrary: stub.library)

        let first = probe.find(within: .milliseconds(100))
        #expect(first.gpus.map(\.target) == ["sm_90", "gfx942"])
        #expect(first.gpus.map(\.index) == [0, 1])
        #expect(first.sources == [.proc, .kfd])
        #expect(first.problems.count == 1 && first.problems[0].hasPrefix("NVML did not answer within 100 ms"))

        // Would take an hour if it were waited for.
        let second = probe.find(within: .seconds(3600))
        #expect(second.gpus.map(\.target) == ["sm_90", "gfx942"])
        #expect(second.problems.count == 1 && second.problems[0].hasPrefix("NVML has not answered an earlier question"))

        try stub.endHang()
        while probe.find(within: .seconds(60)).sources != [.nvml, .kfd] {}
    }

    @Test("looks at the same time share one question")
    func concurrent() async throws {
        let stub = try NVMLStub()
        let probe = GPUProbe(root: "/nonexistent", nvmlLibrary: stub.library)
        await withTaskGroup(of: Int.self) { group in
            for _ in 0..<16 { group.addTask { probe.find(within: .seconds(60)).gpus.count } }
            for await count in group { #expect(count == 2) }
        }
    }

    @Test("a file that is no library is a problem; a library that is not there is none")
    func noLibrary() throws {
        let tree = HostTree()
        try tree.write("libnvidia-ml.so.1", "not an ELF file")
        var probe = GPUProbe(root: tree.path, nvmlLibrary: "\(tree.path)/libnvidia-ml.so.1")
        let findings = probe.find(within: .seconds(60))
        #expect(findings.problems.count == 1 && findings.problems[0].hasPrefix("NVML cannot be loaded: "))

        probe = GPUProbe(root: tree.path)
        #expect(probe.find(within: .seconds(60)) == GPUFindings())
    }

    @Test("below another root the library is looked for where drivers put it")
    func places() throws {
        let tree = HostTree()
        let stub = try NVMLStub()
        let library = try Data(contentsOf: URL(fileURLWithPath: stub.library))
        try tree.write("run/nvidia/driver/usr/lib64/libnvidia-ml.so.1", library)
        #expect(GPUProbe(root: tree.path).find(within: .seconds(60)).gpus.count == 2)
    }

    @Test("a driver without the library is said, with what a container lacks")
    func noUtilityCapability() throws {
        let tree = HostTree()
        try tree.write("proc/driver/nvidia/version", NVIDIAFilesTests.version)
        try tree.write("proc/driver/nvidia/gpus/0000:3b:00.0/information", NVIDIAFilesTests.information)
        let findings = GPUProbe(root: tree.path).find(within: .seconds(60))
        #expect(findings.gpus.count == 1)
        #expect(findings.problems.count == 1 && findings.problems[0].contains("libnvidia-ml.so.1 is not found"))
    }
}
