internal import KernelCaches

/// What in the directory of an entry is surely the entry's own. Nothing else is ever removed.
struct OwnContents {
    struct Item {
        var name: [UInt8]
        var isFile: Bool
        var isFolder: Bool
    }

    private let found: FolderKernels.Found
    /// Of an entry of Triton's.
    private let triton: TritonContents?

    /// - Parameters:
    ///   - items: in the directory now.
    ///   - folder: the directory, to read group records in; nil where it is gone.
    init(of found: FolderKernels.Found, _ items: [Item], in folder: @autoclosure () -> Folder?) {
        self.found = found
        guard found.kernel.kind == .triton else {
            triton = nil
            return
        }
        let names = items.filter(\.isFile).map(\.name)
        triton = TritonContents(names: names, described: found.described) { name in
            let read = try? folder()?.read(name, bytesMax: Int(KernelDescription.metadataBytesMax) + 1)
            return read.flatMap { TritonGroup($0.bytes) }
        }
    }

    func holds(_ item: Item) -> Bool {
        if item.isFile, Place.isPruned(item.name) { return true }
        guard let triton else { return found.kernel.kind.makes(item.name, isDirectory: item.isFolder) }
        if item.isFile { return triton.holds(item.name) }
        return item.isFolder && TritonFile.isTemporary(item.name)
    }

    /// Why the entry stays: a sentence. nil where it may go.
    func doubt(_ items: [Item], _ extent: PrunePlan.Extent) -> String? {
        if let triton {
            guard triton.isCertain else {
                return "nothing says for certain that Triton made it" + (found.kernel.problem.map { "; \($0)" } ?? "")
            }
        } else if let problem = found.kernel.problem {
            return "what it is is not certain; \(problem)"
        }
        guard extent == .full, let other = items.first(where: { !holds($0) }) else { return nil }
        return "it holds \(String(decoding: other.name, as: UTF8.self)), which is not known to be its own"
    }
}

extension OwnContents.Item {
    init(_ item: Folder.Item) { self.init(name: item.name, isFile: item.isFile, isFolder: item.isFolder) }
}
