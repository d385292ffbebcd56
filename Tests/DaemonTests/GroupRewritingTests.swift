import Catalog
import KernelCaches
import MCFSCore
import MountFS
import Testing

@testable import Daemon

@Suite struct GroupRewritingTests {
    private let key = String(repeating: "A", count: 52)

    /// A tree of one entry whose group file has that many bytes.
    private func tree(groupBytes: Int, linkCount: Int = 1) throws -> Tree {
        var builder = TreeBuilder()
        let source = builder.addSource(SourceDescriptor([:]))
        func add(_ name: String, _ size: Int) throws {
            try builder.add(
                TreeEntry(
                    try TreePath("\(key)/\(name)"),
                    .file(Content(id: BlobID(origin: "test", name), size: UInt64(size), source: source, offset: 0)),
                    permissions: 0o644))
        }
        for name in ["k.cubin", "k.ttir", "k.json"] { try add(name, 10) }
        try add("__grp__k.json", groupBytes)
        if linkCount > 1 {
            try builder.add(
                TreeEntry(
                    try TreePath("\(key)/other"), .hardLink(try TreePath("\(key)/__grp__k.json")), permissions: 0o644))
        }
        return try builder.build()
    }

    private func stored(_ names: [String] = ["k.cubin", "k.ttir", "k.json"]) -> String {
        let paths = names.map { "\"\($0)\": \"/root/.triton/cache/\(key)/\($0)\"" }.joined(separator: ", ")
        return "{\"child_paths\": {\(paths)}}"
    }

    private func rewriting(_ text: String, root: String?, slim: Bool = false) throws -> (size: UInt64, shown: String)? {
        let tree = try tree(groupBytes: text.utf8.count)
        let made = GroupRewriting.rewriting(KernelSurvey(tree), tree, root: root, slim: slim)
        guard let made, let (file, size) = made.sizes.first else { return nil }
        return (size, String(decoding: made.rewrite(file, Array(text.utf8)), as: UTF8.self))
    }

    @Test(
        "the shown file has the size that was told, the paths of the mount, and nothing but spaces behind them",
        arguments: ["/m", "/a/very/long/mountpoint/where/engines/look", "/with \"quotes\"", "/wïth/ünicode/漢字", "/"])
    func paths(root: String) throws {
        let (size, shown) = try #require(try rewriting(stored(), root: root))
        #expect(shown.utf8.count == Int(size))
        let group = try #require(TritonGroup(Array(shown.utf8)))
        let folder = (root == "/" ? "" : root) + "/" + key
        #expect(group.childPaths.map(\.path) == ["k.cubin", "k.ttir", "k.json"].map { "\(folder)/\($0)" })
    }

    @Test("a list that was written without separators grows no further than was told")
    func compact() throws {
        let text = stored().filter { $0 != " " }
        let (size, shown) = try #require(try rewriting(text, root: "/elsewhere"))
        #expect(shown.utf8.count == Int(size))
        #expect(TritonGroup(Array(shown.utf8))?.childPaths.first?.path == "/elsewhere/\(key)/k.cubin")
    }

    @Test("slim leaves intermediate files out, and so does a tree that does not have them")
    func slim() throws {
        let slim = try #require(try rewriting(stored(), root: "/m", slim: true))
        #expect(TritonGroup(Array(slim.shown.utf8))?.childPaths.map(\.name) == ["k.cubin", "k.json"])
        let missing = try #require(try rewriting(stored(["k.cubin", "k.llir", "k.json", "gone.cubin"]), root: "/m"))
        #expect(TritonGroup(Array(missing.shown.utf8))?.childPaths.map(\.name) == ["k.cubin", "k.json", "gone.cubin"])
    }

    @Test(
        "what is no list of paths shows as it is stored",
        arguments: ["{", "[]", "{\"child_paths\": [\"k.json\"]}", "{\"child_paths\": {\"k\": 5}}", "\u{ff}\u{0}"])
    func others(text: String) throws {
        let (size, shown) = try #require(try rewriting(text, root: "/m"))
        #expect(shown.utf8.count == Int(size))
        #expect(shown.hasPrefix(text) && shown.dropFirst(text.count).allSatisfy { $0 == " " })
    }

    @Test("a list whose paths would not fit shows as it is stored")
    func tooMany() throws {
        let text = stored((0..<50).map { "k\($0).cubin" })
        let (_, shown) = try #require(try rewriting(text, root: "/" + String(repeating: "x", count: 200)))
        #expect(shown.hasPrefix(text))
    }

    @Test("large files and files of several names are left alone, and so is everything where nothing is to be done")
    func leftAlone() throws {
        for tree in [
            try tree(groupBytes: (64 << 10) + 1), try tree(groupBytes: 100, linkCount: 2), try tree(groupBytes: 0),
        ] {
            #expect(GroupRewriting.rewriting(KernelSurvey(tree), tree, root: "/m", slim: true) == nil)
        }
        let tree = try tree(groupBytes: 100)
        #expect(GroupRewriting.rewriting(KernelSurvey(tree), tree, root: nil, slim: false) == nil)
    }
}
