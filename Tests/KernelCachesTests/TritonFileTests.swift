import Testing

@testable import KernelCaches

@Suite("Files and keys of Triton")
struct TritonFileTests {
    @Test(
        "what a file is follows from its name",
        arguments: [
            ("add_kernel.ttir", "intermediate"), ("a.ttgir", "intermediate"), ("a.llir", "intermediate"),
            ("a.source", "intermediate"), ("a.ptx", "intermediate"), ("a.amdgcn", "intermediate"),
            ("a.glir", "intermediate"), ("a.cubin", "binary"), ("a.hsaco", "binary"),
            ("__grp__add_kernel.json", "group"), ("add_kernel.json", "metadata"), ("a.autotune.json", ""),
            ("__grp__.json", ""), (".json", ""), (".ttir", ""), ("ttir", ""), ("", ""), ("a.TTIR", ""), ("a.json ", ""),
            ("__triton_launcher.so", "launcher"),
            ("__triton_launcher.cpython-311-x86_64-linux-gnu.so", "launcher"),
            ("cuda_utils.cpython-311-x86_64-linux-gnu.so", "launcher"), ("hip_utils.so", "launcher"),
            ("libcuda_utils.so", ""), ("cuda_utils", ""),
            ("tmp.pid_17_0d1f", "temporary"), ("a.json.tmp.pid_17_4", "temporary"),
            ("__grp__a.json.tmp.pid_1_2", "temporary"), ("a.tmp.pid", ""), ("xtmp.pid_1", ""),
        ])
    func kinds(_ name: String, _ kind: String) {
        let kinds = [
            TritonFile.isIntermediate(name.utf8) ? "intermediate" : nil,
            TritonFile.isBinary(name.utf8) ? "binary" : nil,
            TritonFile.isGroup(name.utf8) ? "group" : nil, TritonFile.isMetadata(name.utf8) ? "metadata" : nil,
            TritonFile.isLauncher(name.utf8) ? "launcher" : nil,
            TritonFile.isTemporary(name.utf8) ? "temporary" : nil,
        ].compactMap { $0 }
        #expect(kinds == (kind.isEmpty ? [] : [kind]))
    }

    @Test(
        "Triton writes in directories and files that are named after its process and a UUID",
        arguments: [
            ("tmp.pid_17_0d1f2a3b-4c5d-6e7f-8091-a2b3c4d5e6f7", true), ("tmp.pid_17_4", true), ("tmp.pid_17_", false),
            ("tmp.pid_17", false), ("tmp.pid_notes_of_me.txt", false), ("tmp.pid_17_notes", false),
            ("tmp.pid__4", false), ("tmp.pid_", false),
        ])
    func writers(_ name: String, _ isTritons: Bool) {
        #expect(TritonFile.isTemporaryFolder(name.utf8) == isTritons)
        let file = TritonFile.fileName(ofWriters: Array("a.json.\(name)".utf8))
        #expect(file.map { String(decoding: $0, as: UTF8.self) } == (isTritons ? "a.json" : nil))
        // What may be being written is told by less.
        #expect(TritonFile.isTemporary(name.utf8))
    }

    @Test("a hash has the directory names of every version that made it")
    func encodings() {
        let hash = "172744c1c71bc879221e4c421a333788affecaa14a0170f8110439f54505cc77"
        let base32 = "C4TUJQOHDPEHSIQ6JRBBUMZXRCX75SVBJIAXB6ARAQ47KRIFZR3Q"
        let keys = TritonFile.keys(ofHash: hash)
        #expect(keys == [hash, "FydEwccbyHkiHkxCGjM3iK_-yqFKAXD4EQQ59UUFzHc", base32])
        for key in keys { #expect(TritonFile.isKey(key.utf8) && TritonFile.hash(ofKey: key.utf8) == hash, "\(key)") }

        let md5 = "0123456789abcdef0123456789abcdef"
        #expect(TritonFile.keys(ofHash: md5) == [md5])
        #expect(TritonFile.hash(ofKey: md5.utf8) == md5)
        #expect(TritonFile.keys(ofHash: "0123") == [])
    }

    @Test("every directory of the fixture is the key of its metadata's hash", arguments: Fixture.kernels)
    func fixture(_ row: Fixture.Row) throws {
        let name = try #require(row.directory.split(separator: "/").last)
        let metadata = try JSONValue(Fixture.bytes("\(row.directory)/\(row.kernel).json"))
        let hash = try #require(metadata["hash"]?.string)
        #expect(TritonFile.isKey(name.utf8))
        #expect(TritonFile.hash(ofKey: name.utf8) == hash)
        #expect(TritonFile.keys(ofHash: hash).contains(String(name)))
    }

    @Test(
        "a name that no version makes is no key",
        arguments: [
            "", "cache", "C4TUJQOHDPEHSIQ6JRBBUMZXRCX75SVBJIAXB6ARAQ47KRIFZR3", "torch_compile_cache",
            // Case counts.
            "c4tujqohdpehsiq6jrbbumzxrcx75svbjiaxb6araq47krifzr3q",
            "172744C1C71BC879221E4C421A333788AFFECAA14A0170F8110439F54505CC77",
            // Bits after the end of the hash.
            "C4TUJQOHDPEHSIQ6JRBBUMZXRCX75SVBJIAXB6ARAQ47KRIFZR3R", "FydEwccbyHkiHkxCGjM3iK_-yqFKAXD4EQQ59UUFzHd",
            "C4TUJQOHDPEHSIQ6JRBBUMZXRCX75SVBJIAXB6ARAQ47KRIFZR30", "0123456789abcdef0123456789abcde/",
        ])
    func noKey(_ name: String) {
        #expect(!TritonFile.isKey(name.utf8))
        #expect(TritonFile.hash(ofKey: name.utf8) == nil)
    }

    @Test("names of any bytes are taken")
    func anyBytes() {
        for byte in UInt8.min...UInt8.max {
            for count in [0, 1, 7, 31, 32, 43, 52, 64, 255] {
                let name = [UInt8](repeating: byte, count: count)
                let isHex = (48...57).contains(byte) || (97...102).contains(byte)
                #expect(
                    TritonFile.isKey(name) == (count == 32 || count == 64 ? isHex : TritonFile.hash(ofKey: name) != nil)
                )
                #expect(!TritonFile.isGroup(name) && !TritonFile.isTemporary(name))
            }
        }
    }
}
