package import MCFSCore

/// Collects entries in any order and makes a `Tree` of them. Missing parent directories are implicit (0755, owned by root).
/// A path that comes twice: the last one wins, two directories become one.
package struct TreeBuilder {
    package init() {}

    /// - Returns: the index to use in `Content.source`.
    package mutating func addSource(_ source: SourceDescriptor) -> Int { 0 }

    /// - Throws: `corrupt` where a path leads through something that is no directory.
    package mutating func add(_ entry: TreeEntry) throws(MCFSError) {}

    /// Applies a layer on top of what is there: whiteouts, opaque directories, hard links into layers below. The entries'
    /// `Content.source` counts in `sources`.
    package mutating func apply(layer entries: [TreeEntry], sources: [SourceDescriptor]) throws(MCFSError) {}

    /// Lays `tree` over what is there, below `directory`: later wins, folders merge.
    package mutating func merge(_ tree: Tree, at directory: TreePath) throws(MCFSError) {}

    /// - Throws: `corrupt` for a hard link to nothing.
    package consuming func build() throws(MCFSError) -> Tree { throw MCFSError(.unsupported, "not written yet") }
}
