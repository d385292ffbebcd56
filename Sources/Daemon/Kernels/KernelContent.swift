internal import Catalog
internal import ChunkStore
internal import KernelCaches
internal import MCFSCore

/// What the files of a kernel amount to, without those of kernels that lie in it. Bytes.
struct KernelContent {
    private(set) var bytes: UInt64 = 0
    /// Of files that a hit needs in no version of Triton.
    private(set) var irBytes: UInt64 = 0
    private(set) var bytesLocal: UInt64 = 0

    init(_ directory: Tree.Index, _ tree: Tree, _ survey: KernelSurvey, _ cache: ChunkCache) {
        let own = survey.entry(holding: directory)
        var pending = [directory]
        while let directory = pending.popLast() {
            for child in tree.children(of: directory) {
                guard let content = tree.content(of: child) else {
                    if survey.entry(holding: child) == own { pending.append(child) }
                    continue
                }
                bytes.addClamped(content.size)
                bytesLocal.addClamped(cache.localBytes(of: content.id, size: content.size))
                if tree.withName(of: child, { TritonFile.isIntermediate($0) }) { irBytes.addClamped(content.size) }
            }
        }
    }
}
