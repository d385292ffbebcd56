import Catalog
import Foundation
import MCFSCore
import Testing

/// The Triton caches that unmodified Triton made for many GPUs: a copy in the repository, or the one beside it.
enum Fixture {
    /// A row of INDEX.tsv: a directory of the fixture and what is in it. "-" stands for nothing.
    struct Row: CustomStringConvertible, Sendable {
        var directory: String
        var kernel: String
        var backend: String
        var arch: String
        var warpSize: String
        var elf: String
        var files: [String]

        var description: String { directory }
        var hasTarget: Bool { backend != "-" }
        /// `3.6.0` where the directory does not say.
        var tritonVersion: String {
            directory.hasPrefix("versions/") ? String(directory.split(separator: "/")[1]) : "3.6.0"
        }
    }

    static let directory: URL = {
        let root = URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let copy = root.appendingPathComponent("Tests/Fixtures/triton-cache")
        let beside = root.deletingLastPathComponent().appendingPathComponent("shared/fixtures/triton-cache")
        return FileManager.default.fileExists(atPath: copy.path) ? copy : beside
    }()

    /// Empty where the fixture is not there; tests count on rows.
    static let rows: [Row] = {
        guard let text = try? String(contentsOf: directory.appendingPathComponent("INDEX.tsv"), encoding: .utf8)
        else { return [] }
        return text.split(separator: "\n").dropFirst().compactMap { line in
            let fields = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            guard fields.count == 7 else { return nil }
            return Row(
                directory: fields[0], kernel: fields[1], backend: fields[2], arch: fields[3], warpSize: fields[4],
                elf: fields[5], files: fields[6].split(separator: ",").map(String.init))
        }
    }()

    static let kernels = rows.filter(\.hasTarget)

    static func bytes(_ path: String) throws -> [UInt8] {
        Array(try Data(contentsOf: directory.appendingPathComponent(path)))
    }

    /// All files of the fixture, with their real names and sizes.
    static func tree() throws -> Tree {
        var files: [String] = []
        for case let url as URL in try #require(
            FileManager.default.enumerator(at: directory, includingPropertiesForKeys: [.isRegularFileKey]))
        where try url.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile == true {
            files.append(String(url.path.dropFirst(directory.path.count + 1)))
        }
        return try makeTree(files)
    }
}

/// A tree of these files; a path that ends with `/` is a directory, one with ` -> ` a symbolic link.
func makeTree(_ paths: [String]) throws -> Tree {
    var builder = TreeBuilder()
    let source = builder.addSource(SourceDescriptor(["digest": "sha256:00"]))
    for path in paths {
        let parts = path.components(separatedBy: " -> ")
        let kind: TreeEntry.Kind =
            if path.hasSuffix("/") {
                .directory
            } else if parts.count == 2 {
                .symlink(target: Array(parts[1].utf8))
            } else {
                .file(Content(id: BlobID(origin: path), size: 1, source: source, offset: 0))
            }
        try builder.add(TreeEntry(TreePath(parts[0]), kind, permissions: 0o755))
    }
    return try builder.build()
}

/// These paths, and beside each `NAME.json` a `NAME.cubin`, which makes it metadata of Triton in a directory named by a key.
func withBinaries(_ paths: [String]) -> [String] {
    paths + paths.filter { $0.hasSuffix(".json") }.map { $0.dropLast(4) + "cubin" }
}
