internal import KernelCaches
internal import MCFSCore

/// What in the directory of an entry of Triton's is surely the entry's own, as it is on disk. Nothing else is ever removed.
struct OwnContents {
    /// All that is in the directory.
    let items: [Folder.Item]
    private let found: FolderKernels.Found
    private let triton: TritonContents
    /// From the directory.
    private var strangers: [String] = []

    /// - Parameter folder: the directory. Group records in it are read where something is not certain without.
    init(of found: FolderKernels.Found, in folder: Folder) throws(Errno) {
        self.found = found
        items = try folder.items()
        let names = items.filter(\.isFile).map(\.name)
        triton = TritonContents(names: names, described: found.described) { name in
            let read = try? folder.read(name, bytesMax: Int(KernelDescription.metadataBytesMax) + 1)
            return read.flatMap { TritonGroup($0.bytes) }
        }
        for item in items {
            let name = String(decoding: item.name, as: UTF8.self)
            if item.isFolder, holds(item) {
                for inner in try folder.folder(item.name).items() where !(inner.isFile && holds(inner)) {
                    strangers.append("\(name)/\(String(decoding: inner.name, as: UTF8.self))")
                }
            } else if !holds(item) {
                strangers.append(name)
            }
        }
        strangers.sort()
    }

    /// Whether an item of the directory is the entry's, or a file of a temporary directory in it. What is in a temporary
    /// directory is asked on its own.
    func holds(_ item: Folder.Item) -> Bool {
        if item.isFolder { return TritonFile.isTemporaryFolder(item.name) }
        return item.isFile && (Place.isPruned(item.name) || triton.holds(item.name))
    }

    /// The text on the way to the binary, as far as it is the entry's.
    var intermediates: [Folder.Item] { items.filter { TritonFile.isIntermediate($0.name) && holds($0) } }

    /// Why the entry stays: a sentence. nil where it may go.
    func doubt(_ extent: PrunePlan.Extent) -> String? {
        if let problem = found.kernel.doubt { return problem }
        guard triton.isCertain else { return "nothing says for certain that Triton made it" }
        guard extent == .full, !strangers.isEmpty else { return nil }
        return "it holds \(named(strangers)), which \(strangers.count == 1 ? "is" : "are") not known to be its own"
    }
}

extension IndexedKernel {
    /// Why it stays, whatever is in it: of what is unknown nothing is certain.
    var doubt: String? { problem.map { "what it is is not certain; \($0)" } }
}

/// The first of some paths, and how many more there are.
func named(_ paths: [String]) -> String {
    (paths.first ?? "") + (paths.count > 1 ? " and \(paths.count - 1) more" : "")
}
