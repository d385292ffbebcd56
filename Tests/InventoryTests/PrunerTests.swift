import Foundation
import GPUCompat
import Glibc
import KernelCaches
import MCFSCore
import Testing

@testable import Inventory

@Suite struct PrunerTests {
    private static let intermediates = [".ttir", ".ttgir", ".llir", ".source", ".ptx", ".amdgcn"]

    private func plan(
        _ folder: CacheFolder, _ extent: PrunePlan.Extent = .intermediates, of choice: PrunePlan.Choice = .all,
        _ filter: KernelFilter = KernelFilter(), now: Timestamp = CacheFolder.later
    ) throws -> PrunePlan {
        try PrunePlan(extent, of: choice, in: [folder.path], filter, inventory: folder.inventory, now: now)
    }

    private func run(_ plan: PrunePlan, now: Timestamp = CacheFolder.later) -> PruneReport {
        Pruner(plan, now: now, grace: .zero).run()
    }

    private func children(_ folder: CacheFolder, _ group: String) throws -> [String] {
        let object = try JSONSerialization.jsonObject(with: Data(try folder.read(group).utf8))
        return try #require((object as? [String: [String: String]])?["child_paths"]).keys.sorted()
    }

    @Test(
        "of an entry of each version what engines load stays, and its group record lists exactly that",
        arguments: [
            "cache", "more-targets", "versions/3.0.0", "versions/3.2.0", "versions/3.3.1", "versions/3.4.0",
            "versions/3.7.1", "versions/3.8.0", "versions/3.9.0",
        ])
    func everyVersion(cache: String) throws {
        let folder = try CacheFolder(cache)
        try folder.index()
        let before = try folder.kernels()
        let plan = try plan(folder)
        #expect(plan.items.count == before.count && plan.bytes == before.reduce(0) { $0 + $1.irBytes })
        let report = run(plan)
        #expect(report.kernels == before.count && report.bytesFreed == plan.bytes && report.kept.isEmpty)
        for path in try folder.paths() {
            let names = try folder.names(path)
            #expect(!names.contains { name in Self.intermediates.contains { name.hasSuffix($0) } })
            #expect(names.contains { $0.hasSuffix(".cubin") || $0.hasSuffix(".hsaco") })
            let group = try #require(names.first { $0.hasPrefix("__grp__") })
            #expect(try children(folder, "\(path)/\(group)") == names.filter { $0 != group })
        }
        try folder.index()
        let after = try folder.kernels()
        // As old as before, and all that is known of them is as it was.
        #expect(
            after
                == before.map { kernel in
                    var kernel = kernel
                    // The record got shorter, too.
                    kernel.bytes = after.first { $0.path == kernel.path }?.bytes ?? 0
                    kernel.irBytes = 0
                    return kernel
                })
        #expect(try self.plan(folder).items.isEmpty)
    }

    @Test("a dry run, that is a plan alone, changes nothing")
    func planOnly() throws {
        let folder = try CacheFolder("cache")
        _ = try plan(folder, .full)
        #expect(try folder.index().filesRead == 0 && folder.kernels().count == 12)
    }

    @Test("whole kernels go with their directories, and what is no kernel stays")
    func full() throws {
        let folder = try CacheFolder("cache")
        let plan = try plan(folder, .full, of: .all, KernelFilter(backend: .cuda))
        let report = run(plan)
        #expect(report.kernels == 9 && report.bytesFreed == plan.bytes)
        #expect(try folder.index().kernels == 3)
        // Three for AMD's GPU, and the two launchers.
        #expect(try folder.names("cache").count == 5)
    }

    @Test(
        "what others keep in folders that are named as Triton's are is no kernel, and stays",
        arguments: [
            ["dataset_info.json", "json-train.arrow"],
            ["params.json", "manifest.json", "kernel_lib.so", "kernel.cubin"],
            ["kernel.cubin", "metadata.json"], ["autotune_configs.json"], ["x.json", "my.arrow"],
        ])
    func otherProducers(names: [String]) throws {
        let folder = try CacheFolder()
        for key in [key(1), String(repeating: "a", count: 32), String(repeating: "A", count: 52)] {
            for name in names { try folder.write("cache/\(key)/\(name)", "{}") }
        }
        #expect(try folder.index().kernels == 0)
        for extent in [PrunePlan.Extent.full, .intermediates] {
            let report = run(try plan(folder, extent))
            #expect(report.kernels == 0 && report.bytesFreed == 0)
        }
        for key in try folder.names("cache") { #expect(try folder.names("cache/\(key)") == names.sorted()) }
    }

    @Test(
        "an entry whose metadata does not say what it was built for stays, whatever lies beside it",
        arguments: ["{}", "{", "{\"num_warps\": 4}", "{\"target\": {\"backend\": \"metal\"}}"])
    func unknown(metadata: String) throws {
        let folder = try CacheFolder()
        for number in 1...3 {
            try folder.writeKernel(key(number))
            try folder.write("cache/\(key(number))/kernel.json", metadata)
        }
        try folder.remove("cache/\(key(1))/__grp__kernel.json")
        try folder.write("cache/\(key(2))/__grp__kernel.json", "{\"child_paths\": {\"other.json\": \"/other.json\"}}")
        for extent in [PrunePlan.Extent.full, .intermediates] {
            let plan = try plan(folder, extent)
            #expect(plan.items.isEmpty && plan.kept.count == 3)
            #expect(plan.kept.allSatisfy { $0.contains("what it is is not certain; its metadata ") })
            #expect(run(plan).kernels == 0)
        }
        for number in 1...3 { #expect(try folder.names("cache/\(key(number))").count == (number == 1 ? 4 : 5)) }
    }

    @Test("an entry that holds what is not its own stays whole, and a prune of its text leaves that alone")
    func strangers() throws {
        let folder = try CacheFolder()
        for (number, name) in ["notes.txt", "other.ptx", "weights.safetensors", "a.json"].enumerated() {
            try folder.writeKernel(key(number))
            try folder.write("cache/\(key(number))/\(name)", "mine")
        }
        try folder.writeKernel(key(4))
        #expect(symlink("/nowhere", "\(folder.path)/cache/\(key(4))/link.ptx") == 0)
        // What Triton leaves there besides goes with it.
        try folder.writeKernel(key(5))
        try folder.write("cache/\(key(5))/kernel.autotune.json", "{}")
        let whole = try plan(folder, .full)
        #expect(whole.items.map { String($0.kernel.pathText.suffix(64)) } == [key(5)])
        #expect(whole.kept.count == 5 && whole.kept[0].contains("it holds notes.txt"))
        #expect(run(try plan(folder, .intermediates)).kernels == 6)
        for number in 0...4 { #expect(try folder.names("cache/\(key(number))").count == 4) }
        #expect(try folder.read("cache/\(key(1))/other.ptx") == "mine")
    }

    @Test("what came into an entry after the plan was made keeps it, also with an old time")
    func strangerInBetween() throws {
        let folder = try CacheFolder()
        let hash = "torch_compile_cache/0123456789"
        let python = inductorKey("ab")
        try folder.writeKernel(key(1), in: "\(hash)/rank_0_0/triton_cache")
        try folder.write("\(hash)/rank_0_0/inductor_cache/ab/\(python).py", "x")
        let plan = try plan(folder, .full)
        try folder.write("\(hash)/rank_0_0/inductor_cache/ab/mine", "mine")
        try folder.age("\(hash)/rank_0_0/inductor_cache/ab/mine", seconds: 100_000)
        let report = run(plan)
        #expect(report.kernels == 1 && report.beingWritten == 1)
        #expect(try folder.read("\(hash)/rank_0_0/inductor_cache/ab/mine") == "mine")
    }

    @Test("an entry whose metadata was written over in its place since the plan was made stays")
    func rewritten() throws {
        let folder = try CacheFolder()
        try folder.writeKernel(key(1))
        let plan = try plan(folder, .full)
        let metadata = "cache/\(key(1))/kernel.json"
        try folder.write(metadata, String(repeating: " ", count: try folder.read(metadata).utf8.count))
        try folder.age(metadata, seconds: 1000)
        #expect(run(plan).beingWritten == 1)
        #expect(try folder.names("cache/\(key(1))").count == 5)
    }

    @Test("of a directory of vLLM's or FlashInfer's goes what the engine made, at any depth, and nothing else")
    func otherCaches() throws {
        let folder = try CacheFolder()
        let (hash, infer) = ("torch_compile_cache/0123456789", "flashinfer/0.2.5/90a")
        try folder.writeKernel(key(1), in: "\(hash)/rank_0_0/triton_cache")
        let own = [
            "\(hash)/rank_0_0/vllm_compile_cache.py", "\(hash)/rank_0_0/backbone/computation_graph.py",
            "\(hash)/rank_1_0/inductor_cache/ab/\(inductorKey("ab")).py", "\(infer)/cached_ops/x/x.so",
            "\(infer)/cached_ops/y/build.ninja", "\(infer)/cached_ops/y/csrc_y.cuda.o", "\(infer)/generated/y/y.cu",
        ]
        let strangers = [
            "\(hash)/rank_0_0/backbone/thesis.tex", "\(hash)/rank_0_0/notes.txt",
            "\(hash)/rank_0_0/inductor_cache/ab/notes.py", "\(infer)/cached_ops/mine.tex",
            "\(infer)/cached_ops/mine/x.o",
            "\(infer)/generated/mine.cu",
        ]
        for path in own + strangers { try folder.write(path, "12345") }
        try folder.makeFolder("\(hash)/rank_0_0/papers")
        let plan = try plan(folder, .full)
        #expect(plan.items.map(\.kernel.kind) == [.flashinfer, .vllm, .triton] && plan.kept.isEmpty)
        #expect(plan.items.map(\.bytes).prefix(2) == [20, 15])
        #expect(
            plan.keptInPart == [
                "\(folder.path)/\(infer): cached_ops/mine.tex and 2 more stay, which are not known to be its own",
                "\(folder.path)/\(hash): rank_0_0/backbone/thesis.tex and 3 more stay, which are not known to be its own",
            ])
        let report = run(plan)
        #expect(report.kernels == 3 && report.bytesFreed == plan.bytes && report.kept.isEmpty)
        for path in strangers { #expect(folder.exists(path), "\(path)") }
        #expect(folder.exists("\(hash)/rank_0_0/papers"))
        for path in own { #expect(!folder.exists(path), "\(path)") }
        // And no folder in which nothing is left.
        #expect(try folder.names("\(hash)") == ["rank_0_0"])
        #expect(
            try folder.names("\(hash)/rank_0_0") == ["backbone", "inductor_cache", "notes.txt", "papers"])
        #expect(try folder.names("\(infer)/cached_ops") == ["mine", "mine.tex"])
        let again = try self.plan(folder, .full)
        #expect(again.items.isEmpty && again.kept.count == 2 && again.kept.allSatisfy { $0.contains("it holds only ") })
        for path in strangers { try folder.remove(path) }
        try folder.remove("\(hash)/rank_0_0/papers")
    }

    @Test("a directory of vLLM's or FlashInfer's in which all is the engine's goes at once")
    func wholeDirectories() throws {
        let folder = try CacheFolder()
        try folder.write("torch_compile_cache/0123456789/rank_0_0/vllm_compile_cache.py", "x")
        try folder.makeFolder("torch_compile_cache/0123456789/rank_0_0/inductor_cache/fxgraph")
        try folder.write("flashinfer/0.6.1/90a/cached_ops/x/x.so", "x")
        try folder.makeFolder("flashinfer/0.6.1/90a/generated")
        let plan = try plan(folder, .full)
        #expect(plan.items.count == 2 && plan.kept.isEmpty && plan.keptInPart.isEmpty)
        #expect(run(plan).kernels == 2)
        #expect(!folder.exists("torch_compile_cache/0123456789") && !folder.exists("flashinfer/0.6.1/90a"))
    }

    @Test("a kernel of DeepGEMM's, which it takes for damaged without one of its files, stays whole")
    func deepGEMM() throws {
        let folder = try CacheFolder()
        let entry = "kernel.gemm.0f3a"
        try folder.write("\(entry)/kernel.cu", "x")
        let cubins = CacheFolder.fixture.deletingLastPathComponent().appendingPathComponent("cubins")
        let cubin = try #require(
            FileManager.default.contentsOfDirectory(atPath: cubins.path).first { $0.hasSuffix(".cubin") })
        try FileManager.default.copyItem(
            atPath: "\(cubins.path)/\(cubin)", toPath: "\(folder.path)/\(entry)/kernel.cubin")
        try folder.write("\(entry)/mine", "mine")
        let plan = try plan(folder, .full)
        #expect(
            plan.items.isEmpty && plan.kept.count == 1 && plan.kept[0].contains("it holds mine, which is not known"))
        try folder.remove("\(entry)/mine")
        #expect(run(try self.plan(folder, .full)).kernels == 1 && !folder.exists(entry))
    }

    @Test(
        "what Triton did not write in a temporary of its name keeps the entry, and the plan says so as the prune does")
    func strangersInTemporaries() throws {
        let folder = try CacheFolder()
        let strangers = [
            "tmp.pid_123_abc/userstuff", "tmp.pid_notes_of_me.txt", "tmp.pid_of_me/kernel.cubin",
            "kernel.cubin.tmp.pid_of_me",
        ]
        for (number, stranger) in strangers.enumerated() {
            let entry = "cache/\(key(number))"
            try folder.writeKernel(key(number))
            try folder.write("\(entry)/\(stranger)", "mine")
            try folder.age("\(entry)/\(stranger)", seconds: 40 * 86_400)
            let name = stranger.split(separator: "/")[0]
            try folder.age("\(entry)/\(name)", seconds: 40 * 86_400)
        }
        let plan = try plan(folder, .full)
        #expect(plan.items.isEmpty && plan.kept.count == strangers.count)
        for (reason, name) in zip(plan.kept, strangers) where !name.hasPrefix("tmp.pid_of_me/") {
            #expect(reason.hasSuffix("it holds \(name), which is not known to be its own"))
        }
        #expect(run(plan).kernels == 0)
        for (number, stranger) in strangers.enumerated() { #expect(folder.exists("cache/\(key(number))/\(stranger)")) }
    }

    @Test("a part that somebody else removed in the meantime does not keep the directory of vLLM's")
    func partIsGone() throws {
        let folder = try CacheFolder()
        let hash = "torch_compile_cache/0123456789"
        for number in 1...2 { try folder.writeKernel(key(number), in: "\(hash)/rank_0_0/triton_cache") }
        let plan = try plan(folder, .full)
        let begun = try plan.items.map { try EntryRemoval(beginning: $0, .full, now: CacheFolder.later) }
        #expect(throws: EntryRemoval.Stay.self) { try begun[0].check(parts: []) }
        try folder.remove("\(hash)/rank_0_0/triton_cache/\(key(1))")
        _ = try begun[2].finish(now: CacheFolder.later)
        try begun[0].check(parts: [])
        #expect(try begun[0].finish(now: CacheFolder.later) == 0 && !folder.exists(hash))
    }

    @Test("a directory of vLLM's is named where a kernel in it stays")
    func partStays() throws {
        let folder = try CacheFolder()
        let hash = "torch_compile_cache/0123456789"
        for number in 1...2 { try folder.writeKernel(key(number), in: "\(hash)/rank_0_0/triton_cache") }
        try folder.write("\(hash)/rank_0_0/vllm_compile_cache.py", "x")
        try folder.write("\(hash)/rank_0_0/triton_cache/\(key(2))/notes.txt", "mine")
        let plan = try plan(folder, .full)
        #expect(plan.items.count == 1 && plan.kept.count == 2)
        #expect(plan.kept.contains("\(folder.path)/\(hash): not all kernels in it go"))
        #expect(run(plan).kernels == 1 && folder.exists("\(hash)/rank_0_0/vllm_compile_cache.py"))
    }

    @Test("what goes on a mount is hidden, and frees nothing")
    func mounts() throws {
        let folder = try CacheFolder()
        try folder.writeKernel(key(1), in: "a")
        try folder.writeKernel(key(2), in: "b")
        let plan = try PrunePlan(
            .full, of: .all, in: [folder.path], KernelFilter(), inventory: folder.inventory,
            mountpoints: ["\(folder.path)/a"], now: CacheFolder.later)
        #expect(plan.items.map(\.isOnMount) == [true, false])
        let report = run(plan)
        #expect(report.kernels == 2 && report.hidden == 1 && report.bytesFreed == plan.items[1].bytes)
    }

    @Test("a folder whose name begins as that of a leftover of a prune stays")
    func notALeftover() throws {
        let folder = try CacheFolder()
        try folder.write("cache/.mcfs-pruned-by-me/notes", "mine")
        _ = run(try plan(folder, .full))
        #expect(try folder.read("cache/.mcfs-pruned-by-me/notes") == "mine")
    }

    @Test("temporaries that nobody wrote to for an hour do not keep an entry, and go with it")
    func oldTemporaries() throws {
        let folder = try CacheFolder()
        for number in 1...4 { try folder.writeKernel(key(number)) }
        try folder.write("cache/\(key(1))/tmp.pid_999999_e/kernel.cubin", "half")
        try folder.write("cache/\(key(2))/kernel.cubin.tmp.pid_12_34", "half")
        // One whose writer still writes, and one that holds what nobody knows.
        try folder.write("cache/\(key(3))/tmp.pid_999999_e/kernel.cubin", "half")
        try folder.write("cache/\(key(4))/tmp.pid_999999_e/mine", "mine")
        for path in [
            "\(key(1))/tmp.pid_999999_e/kernel.cubin", "\(key(1))/tmp.pid_999999_e",
            "\(key(2))/kernel.cubin.tmp.pid_12_34",
            "\(key(3))/tmp.pid_999999_e", "\(key(4))/tmp.pid_999999_e/mine", "\(key(4))/tmp.pid_999999_e",
        ] {
            try folder.age("cache/\(path)", seconds: 40 * 86_400)
        }
        let plan = try plan(folder, .full)
        #expect(plan.beingWritten == 1 && plan.kept.count == 1)
        let report = run(plan)
        #expect(report.kernels == 2 && report.beingWritten == 1 && report.kept.isEmpty)
        #expect(try folder.names("cache") == [key(3), key(4)])
        #expect(try folder.names("cache/\(key(4))").count == 6)
    }

    @Test("each kernel of a plan says why it goes")
    func reasons() throws {
        let folder = try CacheFolder()
        try folder.writeKernel(key(1))
        try folder.age("cache/\(key(1))", seconds: 40 * 86_400)
        func reason(
            _ extent: PrunePlan.Extent, of choice: PrunePlan.Choice = .all, _ filter: KernelFilter = KernelFilter()
        ) throws -> String? {
            try plan(folder, extent, of: choice, filter).items.first?.reason
        }
        #expect(try reason(.intermediates) == "no hit needs its IR")
        #expect(
            try reason(
                .full, of: .all,
                KernelFilter(name: "k*", arch: Architecture("sm_90"), olderThan: Age("30d"), hitsBelow: 1))
                == "whole kernels were asked for, its name fits k*, built for 90, changed 5w ago, 0 hits")
        #expect(
            try reason(.full, of: .foreign(GPUSpec.gpus(from: ["sm_80"])))?.contains("built for sm_90") ?? false)
    }

    @Test("what is being written stays: temporaries of both kinds, and young files")
    func busy() throws {
        let folder = try CacheFolder()
        for number in 1...4 { try folder.writeKernel(key(number)) }
        try folder.write("cache/\(key(1))/tmp.pid_12_abc/kernel.cubin", "half")
        try folder.write("cache/\(key(2))/kernel.cubin.tmp.pid_12_34", "half")
        let young = [
            timespec(tv_sec: 0, tv_nsec: 0), timespec(tv_sec: Int(CacheFolder.later.seconds) - 30, tv_nsec: 0),
        ]
        #expect(utimensat(AT_FDCWD, "\(folder.path)/cache/\(key(3))/kernel.cubin", young, 0) == 0)
        for extent in [PrunePlan.Extent.intermediates, .full] {
            let plan = try plan(folder, extent)
            #expect(plan.beingWritten == 3 && plan.items.count == 1)
            let report = run(plan)
            #expect(report.beingWritten == 3 && report.kernels == 1)
        }
        #expect(try folder.names("cache/\(key(1))").count == 6 && folder.names("cache/\(key(2))").count == 6)
        #expect(try folder.names("cache/\(key(3))").count == 5 && !folder.exists("cache/\(key(4))"))
    }

    @Test("an entry that was changed since the plan was made stays")
    func changed() throws {
        let folder = try CacheFolder()
        for number in 1...2 { try folder.writeKernel(key(number)) }
        let plan = try plan(folder, .full)
        try folder.write("cache/\(key(1))/kernel.llir", "new")
        #expect(run(plan).beingWritten == 1)
        #expect(folder.exists("cache/\(key(1))/__grp__kernel.json") && !folder.exists("cache/\(key(2))"))
        // What is gone already is no failure.
        let again = run(plan)
        #expect(again.kernels == 0 && again.beingWritten == 1 && again.failure == nil && again.kept.isEmpty)
    }

    @Test("what an engine writes anew between the two steps stays, all of it")
    func engineBetween() throws {
        let folder = try CacheFolder()
        for number in 1...3 { try folder.writeKernel(key(number)) }
        let now = CacheFolder.later
        let begun = try plan(folder, .full).items.map { try EntryRemoval(beginning: $0, .full, now: now) }
        // Nothing is found any more.
        for number in 1...3 { #expect(!folder.exists("cache/\(key(number))/__grp__kernel.json")) }
        // One is written anew, one is about to be, and an engine that looked for one left its directory.
        try folder.writeKernel(key(1))
        try folder.write("cache/\(key(2))/tmp.pid_1_a/kernel.ttir", "half")
        for number in [0, 1] {
            #expect(throws: EntryRemoval.Stay.self) { try begun[number].finish(now: now) }
        }
        #expect(try begun[2].finish(now: now) > 0)
        #expect(try folder.names("cache/\(key(1))").count == 5 && !folder.exists("cache/\(key(3))"))
        #expect(folder.exists("cache/\(key(2))/tmp.pid_1_a/kernel.ttir"))
    }

    @Test("a file that is replaced between the two steps is the engine's and stays")
    func fileBetween() throws {
        let folder = try CacheFolder()
        try folder.writeKernel(key(1))
        let now = CacheFolder.later
        let begun = try plan(folder).items.map { try EntryRemoval(beginning: $0, .intermediates, now: now) }
        #expect(try children(folder, "cache/\(key(1))/__grp__kernel.json") == ["kernel.cubin", "kernel.json"])
        try folder.remove("cache/\(key(1))/kernel.ttir")
        try folder.write("cache/\(key(1))/kernel.ttir", "other")
        _ = try begun[0].finish(now: now)
        #expect(try folder.read("cache/\(key(1))/kernel.ttir") == "other")
        #expect(!folder.exists("cache/\(key(1))/kernel.ptx"))
    }

    @Test("an entry whose group record is none, or one of Triton 2, keeps its files")
    func otherGroups() throws {
        let folder = try CacheFolder()
        for number in 1...2 { try folder.writeKernel(key(number)) }
        try folder.write("cache/\(key(1))/__grp__kernel.json", "{\"child_pa")
        try folder.write(
            "cache/\(key(2))/__grp__kernel.json",
            "{\"child_paths\": [\"kernel.ttir\", \"kernel.cubin\", \"kernel.json\"]}")
        let report = run(try plan(folder))
        #expect(report.kernels == 0 && report.kept.count == 2 && report.failure == nil)
        #expect(try folder.names("cache/\(key(1))").count == 5 && folder.names("cache/\(key(2))").count == 5)
    }

    @Test("of kernels with the same bytes in one cache folder the newest stays")
    func duplicates() throws {
        let folder = try CacheFolder()
        for (number, age) in [(1, 300), (2, 100), (3, 200)] {
            try folder.writeKernel(key(number))
            try folder.age("cache/\(key(number))", seconds: age)
        }
        // Of another name, target, metadata, size.
        try folder.writeKernel(key(4), name: "other_")
        try folder.writeKernel(key(5), arch: "80")
        try folder.writeKernel(key(6), extra: ", \"a\": 1")
        try folder.writeKernel(key(7), extra: ", \"a\": 2")
        try folder.writeKernel(key(8))
        try folder.write("cache/\(key(8))/kernel.cubin", "larger binary")
        let plan = try plan(folder, .full, of: .duplicates)
        #expect(plan.items.map { $0.kernel.hash } == [key(1), key(3)])
        #expect(
            plan.items.allSatisfy {
                $0.reason == "the same bytes as \(folder.path)/cache/\(key(2)), which stays"
            })
        #expect(run(plan).kernels == 2)
        #expect(try folder.names("cache") == [2, 4, 5, 6, 7, 8].map(key))
        #expect(try self.plan(folder, .full, of: .duplicates).items.isEmpty)
    }

    @Test("kernels of other ranks, devices and caches are no duplicates: each is looked for where it lies")
    func duplicatesElsewhere() throws {
        let folder = try CacheFolder()
        let caches = [
            "torch_compile_cache/0123456789/rank_0_0/triton_cache",
            "torch_compile_cache/0123456789/rank_1_0/triton_cache",
            "torch_compile_cache/abcdef0123/rank_0_0/triton_cache", "inductor/triton/0", "inductor/triton/1",
        ]
        for cache in caches { try folder.writeKernel(key(1), in: cache) }
        #expect(try plan(folder, .full, of: .duplicates).items.isEmpty)
    }

    @Test(
        "kernels that differ in a byte of any file are no duplicates, and neither are those whose text is gone",
        arguments: ["cubin", "ttir", "ptx", "none"])
    func almostDuplicates(file: String) throws {
        let folder = try CacheFolder()
        for number in 1...3 { try folder.writeKernel(key(number)) }
        for number in 2...3 {
            let place = "cache/\(key(number))/kernel.\(file)"
            if file == "none" {
                try folder.remove("cache/\(key(number))/kernel.ttir")
            } else {
                try folder.write(place, String(try folder.read(place).dropLast()) + "\(number)")
            }
        }
        #expect(try plan(folder, .full, of: .duplicates).items.isEmpty)
    }

    @Test("of duplicates one that lies where its hash says stays, however old it is")
    func copies() throws {
        let folder = try CacheFolder()
        try folder.writeKernel(key(1))
        for number in [0, 2] { try folder.writeKernel(key(number), hash: key(1)) }
        try folder.age("cache/\(key(1))", seconds: 1000)
        let plan = try plan(folder, .full, of: .duplicates)
        #expect(plan.items.map { String($0.kernel.pathText.suffix(64)) } == [key(0), key(2)])
        #expect(run(plan).kernels == 2)
        #expect(try folder.names("cache") == [key(1)])
    }

    @Test("a duplicate stays where the one that was to stay is gone or was changed in the meantime")
    func duplicateOfWhatIsGone() throws {
        let folder = try CacheFolder()
        for number in 1...2 { try folder.writeKernel(key(number)) }
        try folder.age("cache/\(key(1))", seconds: 1000)
        let plan = try plan(folder, .full, of: .duplicates)
        try folder.remove("cache/\(key(2))")
        let report = run(plan)
        #expect(report.kernels == 0 && report.kept.count == 1 && report.failure == nil)
        #expect(try folder.names("cache/\(key(1))").count == 5)
        // A file that was written over in its place leaves the directory as it was.
        try folder.writeKernel(key(2))
        let other = try self.plan(folder, .full, of: .duplicates)
        try folder.write("cache/\(key(2))/kernel.cubin", "BINARY")
        #expect(other.items.count == 1 && run(other).kernels == 0)
    }

    @Test("what no GPU can run goes; what it is not known of stays")
    func incompatible() throws {
        let folder = try CacheFolder("cache", "more-targets")
        try folder.writeKernel(key(1), in: "broken")
        try folder.write("broken/\(key(1))/kernel.json", "{")
        let gpus = try GPUSpec.gpus(from: ["sm_90"])
        let plan = try plan(folder, .full, of: .foreign(gpus))
        #expect(plan.items.count == 17)
        #expect(run(plan).kernels == 17)
        try folder.index()
        #expect(try folder.kernels().map(\.arch) == [nil, "90", "90", "90"])
    }

    @Test("a directory of vLLM's goes only with all kernels in it, and at once")
    func vllm() throws {
        let folder = try CacheFolder()
        let hash = "torch_compile_cache/0123456789"
        for number in 1...2 { try folder.writeKernel(key(number), in: "\(hash)/rank_0_0/triton_cache") }
        try folder.write("\(hash)/rank_0_0/vllm_compile_cache.py", "12345")
        try folder.index()
        let kernel = try #require(try folder.kernels().first { $0.hash == key(1) })
        try folder.inventory.record(hits: [(kernel.path, 3, 3)])
        let unused = try plan(folder, .full, of: .all, KernelFilter(hitsBelow: 1))
        #expect(unused.items.map { $0.kernel.hash } == [key(2)])
        let all = try plan(folder, .full)
        #expect(all.items.count == 3)
        // One part is being written, so the whole stays.
        try folder.write("\(hash)/rank_0_0/triton_cache/\(key(2))/tmp.pid_1_2/file", "")
        #expect(run(all).beingWritten == 2 && folder.exists("\(hash)/rank_0_0/vllm_compile_cache.py"))
        try folder.remove("\(hash)/rank_0_0/triton_cache/\(key(2))/tmp.pid_1_2")
        #expect(run(try plan(folder, .full)).kernels == 2)
        #expect(try folder.names("torch_compile_cache").isEmpty)
    }

    @Test("an entry that is the folder itself can be pruned")
    func top() throws {
        let folder = try CacheFolder()
        try folder.writeKernel(key(1))
        let path = "\(folder.path)/cache/\(key(1))"
        func plan(_ extent: PrunePlan.Extent) throws -> PrunePlan {
            try PrunePlan(
                extent, of: .all, in: [path], KernelFilter(), inventory: folder.inventory, now: CacheFolder.later)
        }
        #expect(run(try plan(.intermediates)).kernels == 1)
        #expect(run(try plan(.full)).kernels == 1)
        #expect(try folder.names("cache").isEmpty)
    }

    @Test("a link that takes the place of a directory is not followed")
    func link() throws {
        let folder = try CacheFolder()
        try folder.writeKernel(key(1), in: "a")
        try folder.writeKernel(key(1), in: "b")
        let plan = try PrunePlan(
            .full, of: .all, in: ["\(folder.path)/a"], KernelFilter(), inventory: folder.inventory,
            now: CacheFolder.later)
        try folder.remove("a/\(key(1))")
        #expect(symlink("../b/\(key(1))", "\(folder.path)/a/\(key(1))") == 0)
        #expect(run(plan).kernels == 0)
        #expect(try folder.names("b/\(key(1))").count == 5)
    }

    @Test("what a killed prune left is taken away by the next, and is no kernel")
    func leftovers() throws {
        let folder = try CacheFolder()
        try folder.writeKernel(key(1))
        try folder.writeKernel(key(2), in: "cache/.mcfs-pruned-1")
        try folder.write("cache/\(key(1))/.mcfs-pruned-2", "half a record")
        #expect(try folder.index().kernels == 1)
        let report = run(try plan(folder))
        #expect(report.kernels == 1)
        #expect(try folder.names("cache") == [key(1)])
        #expect(try folder.names("cache/\(key(1))") == ["__grp__kernel.json", "kernel.cubin", "kernel.json"])
    }

    /// Of Inductor's, for its folder of this name.
    private func inductorKey(_ shard: String) -> String { "c\(shard)" + String(repeating: "x", count: 49) }

    @Test("engines of NIM are not pruned")
    func nim() throws {
        let folder = try CacheFolder()
        try folder.write("models--nim--meta--llama/snapshots/0.1/rank0.engine", "engine")
        try folder.index()
        #expect(try folder.kernels().map(\.kind) == [.nim])
        #expect(try plan(folder, .full).items.isEmpty)
    }
}
