internal import MCFSCore

/// What indexing a folder or reference found.
package struct IndexReport: Hashable, Sendable {
    package var place: String
    package var kernels = 0
    /// Of all of them.
    package var bytes: UInt64 = 0
    package var added = 0
    package var changed = 0
    package var removed = 0
    /// Files of metadata that were read.
    package var filesRead = 0
    package var warnings: [String] = []

    mutating func count(_ kernel: IndexedKernel) {
        kernels += 1
        bytes.addClamped(kernel.bytes)
    }
}
