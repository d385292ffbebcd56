import Catalog
import ChunkStore
import Foundation
import Glibc
import MCFSCore
import Synchronization
import Testing
import Upper

@testable import MountFS

/// Going back to the tree, without a kernel: what it is told to forget is seen, and is the moment at which others come.
@Suite struct ResetTests {
    private let path: String
    private let fileSystem: MountFS
    private let overlay: Overlay

    init() throws {
        var template = Array("/tmp/mcfs-reset-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        var builder = TreeBuilder()
        let source = builder.addSource(SourceDescriptor([:]))
        let empty = Content(id: BlobID(origin: "test", "empty"), size: 0, source: source, offset: 0)
        for name in ["a", "b", "f"] {
            try builder.add(TreeEntry(try TreePath(name), .file(empty), permissions: 0o644))
        }
        for name in ["d", "h"] {
            try builder.add(TreeEntry(try TreePath(name), .directory, permissions: 0o755))
        }
        let tree = try builder.build()
        let upper = try UpperDirectory(try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY), path: path)
        fileSystem = MountFS(
            tree: tree, sources: TreeSources(tree, [NamedSource("source")]), store: FakeStore(), upper: upper)
        overlay = try #require(fileSystem.overlay)
    }

    private func clear() {
        overlay.close()
        try? FileManager.default.removeItem(atPath: path)
    }

    private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    private func node(_ name: String) throws -> Node { try #require(try fileSystem.find(name)).node }

    private func copyUp(_ name: String) throws -> Node {
        let node = try node(name)
        _ = try overlay.copyUp(node, with: nil, by: .nobody, keepsNode: { true }, isCancelled: { false })
        return node
    }

    private func rename(_ name: String, _ newName: String) throws {
        let file = try overlay.rename(bytes(name), in: .root, to: bytes(newName), in: .root, flags: 0)
        #expect(file == nil)
    }

    /// - Parameter body: runs when the kernel is told for the first time.
    private func reset(
        _ at: String = "", dropsWritten: Bool = false, _ body: () throws -> Void = {}
    ) throws -> (reset: Overlay.Reset, told: Set<String>) {
        var reset = Overlay.Reset()
        var told: [String] = []
        var thrown: (any Error)?
        var isFirst = true
        try overlay.reset(at: try TreePath(at), dropsWritten: dropsWritten, &reset) { stale in
            told += stale.names.map { String(decoding: $0.name, as: UTF8.self) }
            guard isFirst else { return }
            isFirst = false
            do { try body() } catch { thrown = error }
        }
        if let thrown { throw thrown }
        return (reset, Set(told))
    }

    @Test("a file that is opened by its old number while the kernel is told of it keeps it, and nothing is forgotten")
    func openedByTheOldNumber() throws {
        defer { clear() }
        let old = try copyUp("f")
        try rename("f", "g")
        let done = try reset { try fileSystem.open(old, flags: O_RDWR) }
        #expect(done.reset.open.map(\.description) == ["f"] && done.reset.forgotten == 0 && done.told.contains("g"))
        #expect(try fileSystem.find("f") == nil && fileSystem.find("g")?.node == old)
        _ = try bytes("mine").withUnsafeBytes { try overlay.write(old, $0, at: 0, by: .nobody) }
        #expect(try fileSystem.find("g")?.size == 4)
        fileSystem.release(old)
        #expect(try reset().reset.open.isEmpty)
        let shown = try #require(try fileSystem.find("f"))
        #expect(shown.node == old && !shown.isUpper && shown.size == 0)
        #expect(try fileSystem.find("g")?.size == 4 && fileSystem.find("g")?.node != old)
    }

    @Test("who opens the file by its name meanwhile has it by another number, and the tree's shows")
    func openedByTheNewNumber() throws {
        defer { clear() }
        let old = try copyUp("f")
        try rename("f", "g")
        var new: Node?
        let done = try reset {
            new = try node("g")
            try fileSystem.open(try #require(new), flags: O_RDWR)
            _ = try bytes("mine").withUnsafeBytes { try overlay.write(try #require(new), $0, at: 0, by: .nobody) }
            // Who knows the old number has the same file.
            #expect(try overlay.attributes(of: old).size == 4)
        }
        #expect(done.reset.open.isEmpty && done.reset.forgotten == 1 && new != old)
        #expect(try fileSystem.find("f")?.node == old && fileSystem.find("f")?.isUpper == false)
        #expect(try fileSystem.find("g")?.node == new && fileSystem.find("g")?.size == 4)
    }

    @Test("a name that the file gets while the kernel is told is told as well")
    func renamedMeanwhile() throws {
        defer { clear() }
        let old = try copyUp("f")
        try rename("f", "g")
        let done = try reset { try rename("g", "i") }
        #expect(done.told.isSuperset(of: ["f", "g", "i"]) && done.reset.open.isEmpty)
        #expect(try fileSystem.find("f")?.node == old && fileSystem.find("i")?.node != old)
        #expect(try fileSystem.find("g") == nil)
    }

    @Test("a file that is opened while it is to be removed stays, and shows what is written to it")
    func openedBeforeItIsRemoved() throws {
        defer { clear() }
        let old = try copyUp("f")
        let done = try reset(dropsWritten: true) { try fileSystem.open(old, flags: O_RDWR) }
        #expect(done.reset.open.map(\.description) == ["f"] && done.reset.removed.files == 0)
        _ = try bytes("mine").withUnsafeBytes { try overlay.write(old, $0, at: 0, by: .nobody) }
        fileSystem.release(old)
        #expect(try fileSystem.find("f")?.size == 4 && fileSystem.find("f")?.node == old)
        #expect(try reset(dropsWritten: true).reset.removed.files == 1)
        #expect(try fileSystem.find("f")?.node == old && fileSystem.find("f")?.isUpper == false)
    }

    @Test("a directory that was moved to the place of another one is back, and what was written there shows in that")
    func movedOverAnother() throws {
        defer { clear() }
        let moved = try node("d")
        let other = try node("h")
        let made = try overlay.create(bytes("own"), permissions: 0o644, in: moved, by: .nobody)
        fileSystem.release(made.attributes.node)
        try overlay.remove(bytes("h"), in: .root, isDirectory: true)
        try rename("d", "h")
        #expect(try reset().reset.forgotten == 2)
        #expect(try fileSystem.find("d")?.node == moved && fileSystem.find("h")?.node == other)
        #expect(try fileSystem.find("own", in: moved) == nil && fileSystem.find("own", in: other) != nil)
    }

    @Test("directories that were looked at for a list, a look or a reset are not kept for it")
    func directoriesAreForgotten() throws {
        defer { clear() }
        for name in ["x", "y"] {
            let made = try overlay.make(.directory(permissions: 0o755), bytes(name), in: .root, by: .nobody)
            _ = try overlay.make(.directory(permissions: 0o755), bytes("in"), in: made.node, by: .nobody)
        }
        try rename("f", "g")
        // As the kernel does that forgets.
        for node in overlay.nodes.all { _ = overlay.forget(Node(number: node.number), 1) }
        func count() -> Int { overlay.nodes.all.count { NodeTable.isDynamic($0.number) } }
        #expect(count() == 0)
        #expect(try overlay.differences().count == 6 && count() == 0)
        #expect(try overlay.written(at: .root).folders == 4 && count() == 0)
        #expect(try reset().reset.forgotten == 2 && count() == 0)
    }

    @Test("who looks up a directory while it goes back finds it", .timeLimit(.minutes(5)))
    func lookedUpMeanwhile() throws {
        defer { clear() }
        let isOver = Atomic<Bool>(false)
        let failures = Lock<[Errno]>([])
        let looking = try startThread("looking") { [fileSystem] in
            while !isOver.load(ordering: .acquiring) {
                do throws(Errno) { _ = try fileSystem.find("d") } catch { failures.withLock { $0.append(error) } }
            }
        }
        for round in 0..<40 {
            try rename("d", "e")
            let made = try overlay.create(bytes("\(round)"), permissions: 0o644, in: try node("e"), by: .nobody)
            fileSystem.release(made.attributes.node)
            #expect(try reset(dropsWritten: true).reset.forgotten > 0)
            #expect(try fileSystem.find("d") != nil && fileSystem.find("e") == nil)
        }
        isOver.store(true, ordering: .releasing)
        looking.join()
        #expect(failures.withLock { $0 }.isEmpty)
    }

    // MARK: Which marks go

    @Test("a reset of many names that were shifted by one looks at each of them a few times")
    func shiftedNames() throws {
        let count = 5000
        var marks: [TreePath: Mark] = [:]
        for number in 0..<count { marks[try TreePath("f\(number)")] = .redirect(try TreePath("f\(number + 1)")) }
        marks[try TreePath("f\(count)")] = .whiteout
        let plan = ResetPlan(marks, at: try TreePath("f0"))
        #expect(plan.cleared.count == count + 1 && plan.marks.isEmpty)
        #expect(plan.looks < 4 * count)
    }

    @Test("after a reset each entry shows once, and nothing is remembered at the path or below what goes")
    func plans() throws {
        let seed = UInt64.random(in: 0 ... .max)
        var dice = Dice(state: seed)
        func path() throws -> TreePath {
            let names = (0..<Int.random(in: 1...3, using: &dice)).map { _ in "abc".randomElement(using: &dice) ?? "a" }
            return try TreePath(names.map(String.init).joined(separator: "/"))
        }
        for _ in 0..<3000 {
            var marks: [TreePath: Mark] = [:]
            var lowers: Set<TreePath> = []
            for _ in 0..<Int.random(in: 0...8, using: &dice) {
                let place = try path()
                let lower = try path()
                if marks[place] != nil { continue }
                let isMoved = Bool.random(using: &dice) && lower != place && lowers.insert(lower).inserted
                marks[place] = isMoved ? .redirect(lower) : .whiteout
            }
            let at = try path()
            let plan = ResetPlan(marks, at: at)
            #expect(plan.marks.merging(plan.cleared) { one, _ in one } == marks, "seed \(seed)")
            if !marks.keys.contains(where: { $0.removing(prefix: at) != nil }) {
                #expect(plan.cleared.isEmpty, "seed \(seed)")
                continue
            }
            #expect(!plan.marks.keys.contains { $0.removing(prefix: at) != nil || plan.hasCleared(above: $0) })
            for lower in lowers {
                let isMoved = plan.marks.values.contains(.redirect(lower))
                #expect((plan.obstacle(to: lower) != nil) == isMoved, "\(lower), seed \(seed)")
            }
        }
    }

    private struct Dice: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var mixed = state
            mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
            return mixed ^ (mixed >> 31)
        }
    }
}
