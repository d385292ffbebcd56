import Foundation
import Testing

@testable import KernelCaches

@Suite("Groups of Triton")
struct TritonGroupTests {
    @Test("a group of any version is written as Triton wrote it", arguments: Fixture.kernels)
    func roundTrip(_ row: Fixture.Row) throws {
        let bytes = try Fixture.bytes("\(row.directory)/__grp__\(row.kernel).json")
        let group = try #require(TritonGroup(bytes))
        #expect(!group.isRelocatable)
        #expect(group.serialized() == bytes)
        #expect(Set(group.childPaths.map(\.name)) == Set(row.files.filter { !TritonFile.isGroup($0.utf8) }))
    }

    @Test("a rebased group names the same files in the new place, in the same order", arguments: Fixture.kernels)
    func rebased(_ row: Fixture.Row) throws {
        let bytes = try Fixture.bytes("\(row.directory)/__grp__\(row.kernel).json")
        let name = try #require(row.directory.split(separator: "/").last)
        let moved = try #require(TritonGroup(bytes)).rebased(to: "/mnt/cache/\(name)")
        // What sed would do.
        let expected = String(decoding: bytes, as: UTF8.self)
            .replacingOccurrences(of: "/root/.triton/cache/", with: "/mnt/cache/")
        #expect(String(decoding: moved.serialized(), as: UTF8.self) == expected)
        #expect(moved.rebased(to: "/root/.triton/cache/\(name)/").serialized() == bytes)
        #expect(TritonGroup(moved.serialized()) == moved)
    }

    @Test("what is left out is not listed, the rest stays")
    func leavingOut() throws {
        let text = """
            {"child_paths": {"k.source": "/c/K/k.source", "k.ttir": "/c/K/k.ttir", "k.ptx": "/c/K/k.ptx", \
            "k.cubin": "/c/K/k.cubin", "k.json": "/c/K/k.json"}}
            """
        let group = try #require(TritonGroup(Array(text.utf8))).leavingOut { TritonFile.isIntermediate($0.utf8) }
        #expect(
            String(decoding: group.serialized(), as: UTF8.self)
                == #"{"child_paths": {"k.cubin": "/c/K/k.cubin", "k.json": "/c/K/k.json"}}"#)
        let none = group.leavingOut { _ in true }
        #expect(String(decoding: none.serialized(), as: UTF8.self) == #"{"child_paths": {}}"#)
    }

    @Test("a list of names, as Triton 2 writes it, stays as it is when the entry moves")
    func relocatable() throws {
        let bytes = Array(#"{"child_paths": ["k.ttir", "k.cubin", "k.json"]}"#.utf8)
        let group = try #require(TritonGroup(bytes))
        #expect(group.isRelocatable)
        #expect(group.rebased(to: "/elsewhere") == group)
        #expect(group.serialized() == bytes)
        #expect(
            group.leavingOut { $0 == "k.ttir" }.serialized() == Array(#"{"child_paths": ["k.cubin", "k.json"]}"#.utf8))
    }

    @Test(
        "a path keeps its last component only",
        arguments: [
            ("k.json", "/m/k.json"), ("/k.json", "/m/k.json"), ("a/b/k.json", "/m/k.json"), ("", "/m/"), ("/", "/m/"),
            ("[REPLACE]/k.json", "/m/k.json"), (#"ключ/к\u00e9\"\\\n.json"#, #"/m/\u043a\u00e9\"\\\n.json"#),
            (#"\ud83d\ude00"#, #"/m/\ud83d\ude00"#),
        ])
    func lastComponent(_ path: String, _ expected: String) throws {
        let group = try #require(TritonGroup(Array(#"{ "child_paths" : { "n" : "\#(path)" } }"#.utf8)))
        for directory in ["/m", "/m/"] {
            let text = String(decoding: group.rebased(to: directory).serialized(), as: UTF8.self)
            #expect(text == #"{"child_paths": {"n": "\#(expected)"}}"#)
        }
    }

    @Test(
        "what is no group is none",
        arguments: [
            "", "{}", "[]", "null", #"{"child_paths": 1}"#, #"{"child_paths": null}"#, #"{"child_paths": {"a": 1}}"#,
            #"{"child_paths": ["a", 1]}"#, #"{"child_paths": {"a": "/x", "a": "/y"}}"#,
            #"{"child_paths": {}, "child_paths": {}}"#, #"{"child_paths": {"a": "\ud800"}}"#,
            #"{"child_paths": {"a": "/x"}} x"#, #"{"child_paths": {"a": "/x"}, "more": 1}"#,
        ])
    func noGroup(_ text: String) { #expect(TritonGroup(Array(text.utf8)) == nil) }

    @Test("a group that is cut anywhere is none")
    func truncated() throws {
        let row = try #require(Fixture.kernels.first)
        let bytes = try Fixture.bytes("\(row.directory)/__grp__\(row.kernel).json")
        for count in 0..<bytes.count { #expect(TritonGroup(Array(bytes.prefix(count))) == nil, "\(count) bytes") }
    }
}
