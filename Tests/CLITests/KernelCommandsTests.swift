import ArgumentParser
import ControlAPI
import Foundation
import GPUCompat
import Inventory
import KernelCaches
import MCFSCore
import MCFSTestSupport
import Testing

@testable import mcfs

@Suite struct KernelCommandsTests {
    @Test("the document of kernels is what the JSON encoder would write")
    func document() throws {
        var one = IndexedKernel(
            path: Array("/a/\u{1}\n\"\\/é".utf8), kind: .triton, modified: -5, bytes: .max, irBytes: 0)
        one.name = "k\u{0}\t\u{7f}\u{2028}🙂"
        (one.hash, one.backend, one.arch, one.warpSize, one.hits) = ("ab", "cuda", "90", 32, 7)
        (one.tritonVersion, one.numWarps, one.numStages, one.lastHit) = ("3.6.0", 4, 3, 1_700_000_000)
        let other = IndexedKernel(path: [0xff, 0x2f, 0x41], kind: .vllm, modified: 0, bytes: 1, irBytes: 0)
        for kernels in [[], [one], [one, other]] {
            let bytes = KernelDocument(kernels, []).bytes
            let value = try JSONSerialization.jsonObject(with: Data(bytes))
            let again = try JSONSerialization.data(
                withJSONObject: value, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
            #expect(String(decoding: again, as: UTF8.self) + "\n" == String(decoding: bytes, as: UTF8.self))
        }
        let listed = try #require(
            (JSONSerialization.jsonObject(with: Data(KernelDocument([one], []).bytes)) as? [String: [[String: Any]]])?[
                "kernels"]?
                .first)
        #expect(listed["name"] as? String == one.name && listed["path"] as? String == one.pathText)
        #expect(listed["bytes"] as? UInt64 == .max && listed["root"] is NSNull && listed.count == 17)
    }

    @Test(
        "a printed command is read back by a shell as it was",
        arguments: [
            (["podman", "run", "a=b:c/d,e@f%+-_."], "podman run a=b:c/d,e@f%+-_."),
            (["", "a b", "$HOME", "it's", "*", "a\nb", "é"], "'' 'a b' '$HOME' 'it'\\''s' '*' 'a\nb' 'é'"),
        ])
    func quoted(words: [String], text: String) { #expect(UserProgram.quoted(words) == text) }

    @Test("a program's status is its own, or 128 and the signal that ended it")
    func status() throws {
        #expect(try UserProgram.run(["sh", "-c", "exit 3"], input: false) == 3)
        #expect(try UserProgram.run(["sh", "-c", "kill -9 $$"], input: false) == 137)
        #expect(throws: MCFSError.self) { try UserProgram.run(["/nonexistent"], input: false) }
    }

    @Test("a container gets the devices of its vendor in the words of its runtime, and no value of a secret")
    func container() {
        var container = EngineContainer(
            runtime: .podman, image: "image", model: "m", devices: .nvidia, directory: "/d", cacheRoot: "/c",
            variables: ["HF_TOKEN"], isInteractive: true)
        #expect(
            container.command == [
                "podman", "run", "--rm", "--interactive", "--tty", "--device", "nvidia.com/gpu=all", "--security-opt",
                "label=disable", "--ipc", "host", "--env", "MODEL_NAME=m", "--env", "VLLM_CACHE_ROOT=/c", "--env",
                "HF_TOKEN", "--volume", "/d:/c:Z", "image",
            ])
        container.runtime = .docker
        #expect(Array(container.command[5...6]) == ["--gpus", "all"])
        container.devices = .amd
        #expect(container.command.contains("/dev/kfd") && !container.command.contains("--gpus"))
        container.isInteractive = false
        #expect(!container.command.contains("--tty"))
    }

    @Test("a program that reads another one's output fails where either does")
    func pipes() throws {
        let letters = ["sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo letters; i=$((i+1)); done"]
        #expect(try UserProgram.run(["sh", "-c", "[ $(wc -c) = 160000 ]"], reading: letters) == 0)
        #expect(try UserProgram.run(["sh", "-c", "cat >/dev/null; exit 3"], reading: letters) == 3)
        #expect(try UserProgram.run(["cat"], reading: ["sh", "-c", "exit 4"]) == 4)
        // Who is not read to the end does not wait for it.
        #expect(try UserProgram.run(["sh", "-c", "exit 5"], reading: ["yes"]) == 5)
        #expect(throws: MCFSError.self) { try UserProgram.run(["/nonexistent"], reading: ["yes"]) }
    }

    @Test(
        "what is pushed has a name in full, and registries on this host are spoken to without TLS",
        arguments: [
            ("oci://127.0.0.1:5000/team/cache", "127.0.0.1:5000/team/cache:latest", true),
            ("localhost:5000/c:v1", "localhost:5000/c:v1", true), ("oci://[::1]:5000/c:v1", "[::1]:5000/c:v1", true),
            ("oci://quay.io/team/cache:v1", "quay.io/team/cache:v1", false),
            ("team/cache", "docker.io/team/cache:latest", false), ("localhost:443/c", "localhost:443/c:latest", false),
            ("127.0.0.1.example.com/c", "127.0.0.1.example.com/c:latest", false),
            ("localhost.example.com/c", "localhost.example.com/c:latest", false),
        ])
    func push(text: String, name: String, isPlain: Bool) throws {
        let reference = try WarmImage.reference(text)
        let podman = WarmImage(runtime: .podman, reference: reference, directory: "/d e")
        #expect(podman.name == name && podman.text == "oci://" + name)
        let word = UserProgram.quoted([name])
        #expect(podman.lines.last == "podman push \(isPlain ? "--tls-verify=false " : "")\(word)")
        let docker = WarmImage(runtime: .docker, reference: reference, directory: "/d")
        #expect(docker.lines.last == "docker push \(word)")
        #expect(
            podman.lines[0].hasSuffix(
                "'/d e' . --directory '/d e.image' Dockerfile manifest | podman build --layers=false --tag \(word) -"))
    }

    @Test("the labels of an image are words of its Dockerfile, whatever is in them")
    func dockerfile() throws {
        let directory = TemporaryDirectory()
        let entry = "torch_compile_cache/0123456789/rank_0_0"
        try FileManager.default.createDirectory(
            atPath: "\(directory.path)/\(entry)", withIntermediateDirectories: true)
        let image = try CacheImageDescription(folder: directory.path, root: #"/a "b" $HOME\n"#)
        let lines = WarmImage.dockerfile(image).split(separator: "\n")
        #expect(lines.prefix(5).last == "COPY --from=image / /")
        #expect(lines.contains("COPY cache /io.vllm.cache/") && lines.contains("COPY manifest /io.vllm.manifest/"))
        #expect(lines.contains(#"LABEL "io.kserve.km/cache-root-env"="VLLM_CACHE_ROOT=/a \"b\" \$HOME\\n""#))
        #expect(lines.contains(#"LABEL "cache.vllm.image/summary"="{\"targets\":[]}""#))
        #expect(lines.count == 5 + image.labels.count)
        let empty = TemporaryDirectory()
        #expect(throws: MCFSError.self) { try CacheImageDescription(folder: empty.path, root: "/c") }
    }

    @Test("--arch takes what --gpu takes: targets, and products for their architecture")
    func architectures() throws {
        for (text, target) in [("sm_90", "sm_90"), ("90", "sm_90"), ("H100", "sm_90"), ("MI300X", "gfx942")] {
            for filter in [
                try PruneCommand.parse(["--arch", text]).options.filter,
                try KernelListCommand.parse(["--arch", text]).options.filter,
            ] { #expect(filter.arch == Architecture(target), "\(text)") }
        }
        #expect(throws: (any Error).self) { try PruneCommand.parse(["--arch", "H1000"]) }
    }

    @Test("one of a thing is not called many")
    func plurals() {
        #expect(count(0, "file") == "0 files" && count(1, "file") == "1 file" && count(2, "file") == "2 files")
        #expect(count(1, "entry", plural: "entries") == "1 entry")
        #expect(count(2, "entry", plural: "entries") == "2 entries")
    }

    @Test("the commands for kernels stand in the help, in a group of their own")
    func help() {
        let help = RootCommand.helpMessage(columns: 120)
        #expect(help.contains("KERNELS:") || help.contains("Kernels:"))
        for verb in ["index", "list", "prune", "warm"] { #expect(help.contains("  \(verb) ")) }
    }
}
