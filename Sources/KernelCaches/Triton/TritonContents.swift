/// What in the directory of an entry is surely Triton's, by names, group records and metadata.
///
/// A kernel is certain where metadata that says what it was built for lies beside what only Triton writes, or where a
/// group record lists that metadata. Certain files are those that are named after such a kernel, or listed in its record.
package struct TritonContents: Sendable {
    private var kernels: Set<[UInt8]> = []
    private var listed: Set<[UInt8]> = []

    /// - Parameters:
    ///   - names: in the directory.
    ///   - described: the name of the metadata file that says what its kernel was built for; nil where none does.
    ///   - group: what a group record holds, nil for one that cannot be read. Asked only where something is not certain
    ///     without: on a mount each opening counts as a hit.
    package init(names: [[UInt8]], described: [UInt8]?, group: ([UInt8]) -> TritonGroup?) {
        let kernel = described.map { Array($0.dropLast(".json".utf8.count)) }
        if let kernel, names.contains(where: { TritonFile.kernelName(of: $0) == kernel }) { kernels.insert(kernel) }
        if names.allSatisfy(holds) { return }
        for name in names where TritonFile.isGroup(name) {
            let metadata = Array(name.dropFirst(TritonFile.groupPrefix.utf8.count))
            guard let children = group(name)?.childPaths.map({ Array($0.name.utf8) }), children.contains(metadata)
            else { continue }
            kernels.insert(Array(metadata.dropLast(".json".utf8.count)))
            listed.formUnion(children)
        }
    }

    /// Whether there is a kernel that is certain.
    package var isCertain: Bool { !kernels.isEmpty }

    /// Whether Triton made the file of this name, in the directory or in a temporary one in it.
    package func holds(_ name: [UInt8]) -> Bool {
        if let file = TritonFile.fileName(ofWriters: name) { return holds(Array(file)) }
        if listed.contains(name) || TritonFile.isLauncher(name) { return true }
        if let kernel = TritonFile.kernelName(of: name) { return kernels.contains(kernel) }
        let own = TritonFile.isGroup(name) ? name.dropFirst(TritonFile.groupPrefix.utf8.count) : name[...]
        return kernels.contains { kernel in
            own.starts(with: kernel)
                && [".json", ".autotune.json"].contains { own.dropFirst(kernel.count).elementsEqual($0.utf8) }
        }
    }
}
