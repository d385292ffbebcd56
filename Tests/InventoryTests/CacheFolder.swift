import Foundation
import Glibc
import MCFSCore
import MCFSTestSupport
import Testing

@testable import Inventory

/// A folder of kernels that a test may change, and an inventory of its own. Both go with this value.
struct CacheFolder {
    private let directory = TemporaryDirectory()
    let inventory: KernelInventory

    /// The Triton caches of the project's fixture.
    static let fixture: URL = {
        let root = URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let copy = root.appendingPathComponent("Tests/Fixtures/triton-cache")
        let beside = root.deletingLastPathComponent().appendingPathComponent("shared/fixtures/triton-cache")
        return FileManager.default.fileExists(atPath: copy.path) ? copy : beside
    }()

    /// - Parameter caches: folders of the fixture to begin with.
    init(_ caches: String...) throws {
        inventory = try KernelInventory(path: directory.path + "/data/inventory.db")
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        for cache in caches {
            let to = URL(fileURLWithPath: path).appendingPathComponent(cache)
            try FileManager.default.createDirectory(
                at: to.deletingLastPathComponent(), withIntermediateDirectories: true)
            try FileManager.default.copyItem(at: Self.fixture.appendingPathComponent(cache), to: to)
        }
    }

    var path: String { directory.path + "/cache" }
    var databasePath: String { directory.path + "/data/inventory.db" }

    /// Half an hour from now: nothing is young, all times are settled, and what a writer has begun is not given up.
    static var later: Timestamp { Timestamp(seconds: Timestamp.now.seconds + 1800) }

    @discardableResult
    func index(_ subfolder: String = "") throws -> IndexReport {
        try inventory.index(folder: subfolder.isEmpty ? path : "\(path)/\(subfolder)", now: Self.later)
    }

    func kernels(_ filter: KernelFilter = KernelFilter()) throws -> [IndexedKernel] {
        try inventory.kernels(matching: filter, now: Self.later)
    }

    /// Paths below the folder.
    func paths(_ filter: KernelFilter = KernelFilter()) throws -> [String] {
        try kernels(filter).map { String($0.pathText.dropFirst(path.count + 1)) }
    }

    func write(_ file: String, _ text: String) throws {
        let url = URL(fileURLWithPath: "\(path)/\(file)")
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: url)
    }

    func makeFolder(_ folder: String) throws {
        try FileManager.default.createDirectory(atPath: "\(path)/\(folder)", withIntermediateDirectories: true)
    }

    func read(_ file: String) throws -> String { try String(contentsOfFile: "\(path)/\(file)", encoding: .utf8) }

    func names(_ folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "\(path)/\(folder)").sorted()
    }

    func remove(_ file: String) throws { try FileManager.default.removeItem(atPath: "\(path)/\(file)") }

    func exists(_ file: String) -> Bool {
        var status = stat()
        return lstat("\(path)/\(file)", &status) == 0
    }

    func age(_ file: String, seconds: Int) throws {
        let time = timespec(tv_sec: Int(Timestamp.now.seconds) - seconds, tv_nsec: 0)
        #expect(utimensat(AT_FDCWD, "\(path)/\(file)", [time, time], AT_SYMLINK_NOFOLLOW) == 0)
    }

    /// An entry as Triton writes it; its directory is the key of `hash`.
    func writeKernel(
        _ key: String, name: String = "kernel", hash: String? = nil, arch: String = "90", extra: String = "",
        in cache: String = "cache"
    ) throws {
        let folder = "\(cache)/\(key)"
        let metadata = """
            {"hash": "\(hash ?? key)", "target": {"backend": "cuda", "arch": \(arch), "warp_size": 32}, "num_warps": 4, \
            "name": "\(name)"\(extra)}
            """
        var children: [String] = []
        for (ending, content) in [("ttir", "ir"), ("ptx", "ptx"), ("cubin", "binary"), ("json", metadata)] {
            try write("\(folder)/\(name).\(ending)", content)
            children.append("\"\(name).\(ending)\": \"\(path)/\(folder)/\(name).\(ending)\"")
        }
        try write("\(folder)/__grp__\(name).json", "{\"child_paths\": {\(children.joined(separator: ", "))}}")
    }
}

/// 64 hex digits, a key of Triton 3.0.
func key(_ number: Int) -> String {
    let digits = String(number, radix: 16)
    return String(repeating: "0", count: 64 - digits.count) + digits
}
