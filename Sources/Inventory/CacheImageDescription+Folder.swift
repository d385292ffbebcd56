internal import GPUCompat
package import KernelCaches
package import MCFSCore

extension CacheImageDescription {
    /// Of the cache in a local folder, as it is on its disk now.
    ///
    /// - Parameters:
    ///   - folder: absolute, canonical.
    ///   - root: where the engine had it, absolute.
    /// - Throws: `unsupported` for a folder that holds no kernels of vLLM or Triton, `localIO` where a part of it cannot be
    ///   listed; see `FolderScan`.
    package init(folder: String, root: String) throws(MCFSError) {
        let kernels = try FolderKernels(in: folder, known: [:], now: 0)
        if let (path, error) = kernels.scan.unreadable.first {
            throw MCFSError(localIO: "list \(String(decoding: path, as: UTF8.self))", error)
        }
        guard
            let description = CacheImageDescription(
                of: try TreePath(folder), in: kernels.survey, kernels.descriptions, root: root)
        else { throw MCFSError(.unsupported, "\(folder) holds no kernels of vLLM or Triton") }
        self = description
    }
}
