import Catalog
import Glibc
import MCFSCore

/// Repeats itself for a seed (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

func path(_ text: String) -> TreePath {
    guard let path = try? TreePath(text) else { preconditionFailure("a test's path is wrong: \(text)") }
    return path
}

func file(_ text: String, _ label: String = "", source: Int = 0, offset: UInt64 = 0, size: UInt64 = 1) -> TreeEntry {
    TreeEntry(path(text), .file(content(label, source: source, offset: offset, size: size)), permissions: 0o644)
}

func content(_ label: String, source: Int = 0, offset: UInt64 = 0, size: UInt64 = 1) -> Content {
    Content(id: BlobID(origin: label), size: size, source: source, offset: offset)
}

func directory(_ text: String, permissions: UInt16 = 0o755) -> TreeEntry {
    TreeEntry(path(text), .directory, permissions: permissions)
}

func entry(_ text: String, _ kind: TreeEntry.Kind) -> TreeEntry { TreeEntry(path(text), kind, permissions: 0o644) }

func link(_ text: String, to target: String) -> TreeEntry { entry(text, .hardLink(path(target))) }

let oneSource = [SourceDescriptor(["digest": "sha256:00"])]

/// A tree of layers, all with one source.
func layered(_ layers: [TreeEntry]...) throws -> Tree {
    var builder = TreeBuilder()
    for layer in layers { try builder.apply(layer: layer, sources: oneSource) }
    return try builder.build()
}

extension Tree {
    /// `path` of every entry but the root, directories with a `/` at the end.
    var paths: [String] {
        (1..<Index(max(count, 1))).map { entry in
            path(of: entry).description + (attributes(of: entry).kind == .directory ? "/" : "")
        }.sorted()
    }

    func find(_ text: String) -> Index? { entry(at: pathOfTest(text)) }
}

/// `path` inside an extension of `Tree`, where the name means the method.
private func pathOfTest(_ text: String) -> TreePath { path(text) }

extension Tree {
    /// Whole trees compare by what they present.
    var presented: [String] {
        (0..<Index(count)).map { entry in
            let target = String(decoding: target(of: entry), as: UTF8.self)
            return
                "\(path(of: entry)) \(attributes(of: entry)) \(inode(of: entry)) \(String(describing: content(of: entry))) \(target)"
        }
    }
}

/// A folder that goes when the owner does.
final class TemporaryFolder {
    let path: String

    init() {
        var template = Array("/tmp/mcfs-catalog-XXXXXX".utf8CString)
        path = template.withUnsafeMutableBufferPointer { buffer in
            buffer.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) } ?? "/tmp"
        }
    }

    deinit { if path != "/tmp" { removeAll(path) } }

    private func removeAll(_ path: String) {
        for name in names(of: path) { removeAll("\(path)/\(name)") }
        remove(path)
    }
}

func names(of directory: String) -> [String] {
    guard let stream = opendir(directory) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
}

func write(_ bytes: [UInt8], to path: String) throws {
    let file = try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC)
    try bytes.withUnsafeBytes { try file.write($0, at: 0) }
}

func readFile(_ path: String) throws -> [UInt8] {
    let file = try OwnedDescriptor.open(path, O_RDONLY)
    var bytes = [UInt8](repeating: 0, count: Int(try file.status().st_size))
    _ = try bytes.withUnsafeMutableBytes { try file.read(into: $0, at: 0) }
    return bytes
}
