/// In which order kernels are listed. Equal ones come in the order of their paths.
package enum KernelOrder: String, Sendable, CaseIterable {
    case name, arch, path
    /// The largest first.
    case size
    /// The youngest first.
    case age
    /// The most often found first.
    case hits

    var sql: String {
        switch self {
        case .name: "name NULLS LAST, path"
        case .arch: "backend NULLS LAST, LENGTH(arch), arch, path"
        case .path: "path"
        case .size: "bytes DESC, path"
        case .age: "modified DESC, path"
        case .hits: "hits DESC, path"
        }
    }
}
