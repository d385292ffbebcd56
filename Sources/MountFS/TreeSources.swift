package import Catalog
package import ChunkStore
package import MCFSCore
internal import Synchronization

/// What serves the bytes of a tree. A tree may have a source for each of a million files: what reads from one is made
/// when it is first asked for something, and the latest are kept.
///
/// Thread safe. No call waits for the network.
package final class TreeSources: Sendable {
    package typealias Make = @Sendable (Int) throws(MCFSError) -> any ByteSource

    /// How many of what `make` made are kept at least, and twice as many at most: they know where they were sent to, and
    /// how far they have decompressed.
    fileprivate static let keptCount = 512

    private let tree: Tree
    private let make: Make
    private let state = Lock(State())

    fileprivate struct State {
        /// Those that somebody has: a file that is opened twice has one source, by which its fetches are put together.
        var handedOut: [Int: Weak] = [:]
        /// So many are there before the gone ones are taken out.
        var handedOutMax = 1024
        /// What the latest of them read from, and those that were the latest before.
        var kept: [Int: any ByteSource] = [:]
        var older: [Int: any ByteSource] = [:]
    }

    fileprivate struct Weak: Sendable { weak var source: TreeSource? }

    /// `make(i)` makes what serves `tree.sources[i]`. It may be called again for the same, and must be the same then.
    package init(_ tree: Tree, make: @escaping Make) {
        self.tree = tree
        self.make = make
    }

    /// `sources[i]` serves `tree.sources[i]`.
    package convenience init(_ tree: Tree, _ sources: [any ByteSource]) {
        self.init(tree) { number throws(MCFSError) in
            guard sources.indices.contains(number) else {
                throw MCFSError(.corrupt, "nothing serves source \(number) of the tree")
            }
            return sources[number]
        }
    }

    /// What the cache needs to fetch a content of the tree.
    ///
    /// - Throws: `corrupt` where the tree has no such source.
    package func content(_ content: Content) throws(MCFSError) -> FileContent {
        FileContent(
            id: content.id, size: content.size, source: try source(content.source), offset: content.offset,
            layout: tree.layout(ofSource: content.source))
    }

    /// The same object for as long as somebody has it.
    package func source(_ number: Int) throws(MCFSError) -> any ByteSource {
        guard tree.sources.indices.contains(number) else {
            throw MCFSError(
                .corrupt, "a tree names source \(number) of \(tree.sources.count); mount the reference again")
        }
        return state.withLock { state in
            if let known = state.handedOut[number]?.source { return known }
            if state.handedOut.count >= state.handedOutMax {
                state.handedOut = state.handedOut.filter { $0.value.source != nil }
                state.handedOutMax = max(1024, 2 * state.handedOut.count)
            }
            let made = TreeSource(number, of: self)
            state.handedOut[number] = Weak(source: made)
            return made
        }
    }

    /// Whether what serves a source can be made.
    package func check(_ number: Int) throws(MCFSError) { _ = try base(number) }

    fileprivate func base(_ number: Int) throws(MCFSError) -> any ByteSource {
        if let known = state.withLock({ $0.find(number) }) { return known }
        // Made outside of the lock; of two threads that both make one, one wins.
        let made = try make(number)
        return state.withLock { state in
            if let other = state.find(number) { return other }
            state.keep(made, number)
            return made
        }
    }
}

extension TreeSources.State {
    fileprivate mutating func find(_ number: Int) -> (any ByteSource)? {
        if let known = kept[number] { return known }
        guard let known = older.removeValue(forKey: number) else { return nil }
        keep(known, number)
        return known
    }

    fileprivate mutating func keep(_ source: any ByteSource, _ number: Int) {
        if kept.count >= TreeSources.keptCount {
            older = kept
            kept = [:]
        }
        kept[number] = source
    }
}

/// One source of a tree, little more than its number.
private final class TreeSource: ByteSource {
    private let number: Int
    private let sources: TreeSources

    init(_ number: Int, of sources: TreeSources) {
        self.number = number
        self.sources = sources
    }

    /// What cannot be made tells so when it is read.
    private var base: (any ByteSource)? { try? sources.base(number) }

    var name: String { base?.name ?? "source \(number)" }
    var hasRandomAccess: Bool { base?.hasRandomAccess ?? true }
    var isLocal: Bool { base?.isLocal ?? false }
    var origin: String { base?.origin ?? "" }
    var retryCount: UInt64 { base?.retryCount ?? 0 }
    var silence: SourceSilence? { base?.silence }

    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        try sources.base(number).read(range, deadline: deadline, into: sink)
    }
}
