package import Catalog
package import MCFSCore

/// One place that trees and bytes come from, for one reference. Thread safe.
package protocol Origin: AnyObject, Sendable {
    /// What the user typed, without `SUBDIR=`.
    var reference: String { get }

    /// Asks the origin what the reference stands for now.
    func resolve(deadline: Deadline) throws(MCFSError) -> Catalog.Resolution

    /// Builds the tree of a resolution, which may take long (a compressed layer is streamed). Not called where the catalog has it.
    func tree(of resolution: Catalog.Resolution, loading: TreeLoading) throws(MCFSError) -> Tree

    /// The tree is known now: what `resolve` kept for `tree` is not needed any more.
    func forgetListing()

    /// What the origin says of the whole, by name: the labels of an image. Empty where it says nothing.
    func labels(of resolution: Catalog.Resolution, deadline: Deadline) throws(MCFSError) -> [String: String]

    /// Makes the source that a tree's descriptor stands for. Asks nothing of the network: the first read does. Retries and
    /// the renewal of credentials and signed URLs are inside.
    func source(_ descriptor: SourceDescriptor, of resolution: Catalog.Resolution) throws(MCFSError) -> any ByteSource
}

extension Origin {
    package func forgetListing() {}

    package func labels(of resolution: Catalog.Resolution, deadline: Deadline) throws(MCFSError) -> [String: String] {
        [:]
    }
}

/// What an origin may use while it builds a tree.
package struct TreeLoading: Sendable {
    /// Takes whole files that pass by.
    package var content: any ContentSink
    /// Keeps the indexes of layers.
    package var catalog: CatalogHints
    package var progress: any ProgressReporter
    /// Of the whole; each request has its own, shorter one.
    package var deadline: Deadline
    /// Layers that others are reading.
    package var layers: LayersUnderWay
    /// Whether a file of this name is a kernel for some GPU: a host reads a few of those that lie together.
    package var isKernel: @Sendable (ArraySlice<UInt8>) -> Bool = { _ in false }

    package init(
        content: any ContentSink, catalog: CatalogHints, progress: any ProgressReporter, deadline: Deadline,
        layers: LayersUnderWay = LayersUnderWay()
    ) {
        self.content = content
        self.catalog = catalog
        self.progress = progress
        self.deadline = deadline
        self.layers = layers
    }
}
