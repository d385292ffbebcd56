internal import Glibc
internal import KernelCaches
internal import MCFSCore

/// What below the directory of an entry that is not Triton's is surely its engine's, at every depth, as it is on disk.
/// Nothing else is ever removed.
struct OwnTree {
    private struct Node {
        var item: Folder.Item
        var inner: [Node] = []
        /// And all that is in it.
        var isOwn = false
        /// Whether what is in it is asked one by one.
        var isOpen = false
    }

    /// Of files that would go.
    private(set) var bytes: UInt64 = 0
    /// What stays: paths from the directory, sorted. Of a folder where something stays those of what does.
    private(set) var strangers: [String] = []
    private var nodes: [Node] = []
    private let contents: EngineContents

    /// - Parameters:
    ///   - folder: the directory, which is at `path`.
    ///   - parts: paths of entries that lie in it and go on their own.
    init(
        of kind: KernelEntry.Kind, in folder: Folder, at path: [UInt8] = [], but parts: Set<[UInt8]> = []
    ) throws(Errno) {
        var nodes = try Self.nodes(in: folder, at: path, but: parts, device: folder.status().st_dev, depth: 0)
        var files: [[String]] = []
        Self.collect(nodes, at: [], into: &files)
        contents = EngineContents(kind, files: files)
        _ = judge(&nodes, at: [])
        self.nodes = nodes
        strangers.sort()
    }

    /// Whether all that is there is the engine's, so that the directory goes with it.
    var isWhole: Bool { strangers.isEmpty }

    /// Why the entry stays, whole: a sentence. nil where it goes, as far as it is the engine's.
    var doubt: String? {
        if isWhole { return nil }
        let names = named(strangers)
        let rest = strangers.count == 1 ? "which is not known to be its own" : "which are not known to be its own"
        if nodes.allSatisfy(Self.holdsNothingOwn) { return "it holds only \(names), \(rest)" }
        return contents.isDivisible ? nil : "it holds \(names), \(rest)"
    }

    /// What stays of an entry that goes: a sentence.
    var remainder: String? {
        isWhole
            ? nil
            : "\(named(strangers)) \(strangers.count == 1 ? "stays, which is" : "stay, which are") not known to be its own"
    }

    /// Removes what is the engine's, and no folder in which something stays.
    ///
    /// - Returns: bytes of the files that went.
    func remove(in folder: Folder) throws(Errno) -> UInt64 { try Self.remove(nodes, in: folder) }

    private static func remove(_ nodes: [Node], in folder: Folder) throws(Errno) -> UInt64 {
        var bytes: UInt64 = 0
        for node in nodes {
            if node.isOwn, node.item.isFolder {
                try bytes.addClamped(Place(folder, node.item.name).removeTree())
            } else if node.isOwn {
                // What was changed since is somebody else's.
                guard try Folder.Stamp(folder.status(of: node.item.name)).hasSameContent(as: node.item.stamp) else {
                    continue
                }
                try folder.remove(node.item.name)
                bytes.addClamped(node.item.stamp.size)
            } else if !node.inner.isEmpty {
                try bytes.addClamped(remove(node.inner, in: folder.folder(node.item.name)))
            }
        }
        return bytes
    }

    private static func nodes(
        in folder: Folder, at path: [UInt8], but parts: Set<[UInt8]>, device: dev_t, depth: Int
    ) throws(Errno) -> [Node] {
        guard depth < FolderScan.depthMax else { throw Errno(rawValue: ELOOP) }
        var nodes: [Node] = []
        for item in try folder.items() {
            let path = path + [UInt8(ascii: "/")] + item.name
            var node = Node(item: item)
            if parts.contains(path) || Place.isPruned(item.name) {
                node.isOwn = true
            } else if item.isFolder, item.status.st_dev == device {
                node.isOpen = true
                node.inner = try Self.nodes(
                    in: folder.folder(item.name), at: path, but: parts, device: device, depth: depth + 1)
            }
            nodes.append(node)
        }
        return nodes
    }

    private static func collect(_ nodes: [Node], at place: [String], into files: inout [[String]]) {
        for node in nodes {
            let path = place + [String(decoding: node.item.name, as: UTF8.self)]
            if node.item.isFile { files.append(path) }
            collect(node.inner, at: path, into: &files)
        }
    }

    /// - Returns: whether all of them are the engine's.
    private mutating func judge(_ nodes: inout [Node], at place: [String]) -> Bool {
        for index in nodes.indices where !nodes[index].isOwn {
            let path = place + [String(decoding: nodes[index].item.name, as: UTF8.self)]
            if nodes[index].item.isFile {
                nodes[index].isOwn = contents.holds(file: path)
                if nodes[index].isOwn { bytes.addClamped(nodes[index].item.stamp.size) }
            } else if nodes[index].isOpen, nodes[index].inner.isEmpty {
                nodes[index].isOwn = contents.holds(emptyFolder: path)
            } else if nodes[index].isOpen {
                nodes[index].isOwn = judge(&nodes[index].inner, at: path)
            }
            if !nodes[index].isOwn, nodes[index].inner.isEmpty {
                strangers.append(path.joined(separator: "/"))
            }
        }
        return nodes.allSatisfy(\.isOwn)
    }

    private static func holdsNothingOwn(_ node: Node) -> Bool {
        !node.isOwn && node.inner.allSatisfy(holdsNothingOwn)
    }
}
