package import Catalog

/// A directory that is one unit of a kernel cache: shown or hidden as a whole.
package struct KernelEntry: Sendable {
    package enum Kind: String, Sendable, CaseIterable { case triton, vllm, flashinfer, deepgemm, nim }

    package let kind: Kind
    package let directory: Tree.Index
    /// Files to read for a `KernelDescription`, in order of preference. Empty: names say all that can be known.
    package let metadata: [Tree.Index]
    /// As many first bytes of a metadata file are enough. nil: the whole file, which is not read where it is larger than
    /// `KernelDescription.metadataBytesMax`.
    package let metadataBytes: UInt64?
    /// Entries, as positions in the survey, that lie in this one. Of vLLM's directories only.
    package internal(set) var parts: [Int] = []
    /// Holds artefacts whose target nobody can tell, so that it is never surely foreign: vLLM's binary artefacts and
    /// ahead-of-time models.
    package let isOpaque: Bool

    init(
        _ kind: Kind, _ directory: Tree.Index, metadata: [Tree.Index] = [], metadataBytes: UInt64? = nil,
        isOpaque: Bool = false
    ) {
        self.kind = kind
        self.directory = directory
        self.metadata = metadata
        self.metadataBytes = metadataBytes
        self.isOpaque = isOpaque
    }
}
