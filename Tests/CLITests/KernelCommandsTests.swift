import ArgumentParser
import ControlAPI
import Foundation
import Inventory
import KernelCaches
import MCFSCore
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

    @Test("the commands for kernels stand in the help, in a group of their own")
    func help() {
        let help = RootCommand.helpMessage(columns: 120)
        #expect(help.contains("KERNELS:") || help.contains("Kernels:"))
        for verb in ["index", "list", "prune", "warm"] { #expect(help.contains("  \(verb) ")) }
    }
}
