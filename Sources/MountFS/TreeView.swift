package import Catalog
package import MCFSCore
internal import Synchronization

/// What of its tree a mount shows: directories that are hidden with all that is in them, and files that show other bytes
/// than are stored.
///
/// A hidden name is free: it can be made, and shows then what was made. What is open goes on. Thread safe; what is hidden
/// may change at any time, and who changes it makes the kernel look again.
package final class TreeView: Sendable {
    /// Files whose bytes are made of the stored ones.
    package struct Rewriting: Sendable {
        /// Bytes that each of them shows: told from the tree alone, so that nobody must read a file to tell its size.
        package let sizes: [Tree.Index: UInt64]
        /// The shown bytes, exactly as many as `sizes` says, of the stored ones. Runs on threads that answer requests.
        package let rewrite: @Sendable (Tree.Index, [UInt8]) -> [UInt8]

        package init(sizes: [Tree.Index: UInt64], rewrite: @escaping @Sendable (Tree.Index, [UInt8]) -> [UInt8]) {
            self.sizes = sizes
            self.rewrite = rewrite
        }
    }

    package let rewriting: Rewriting?
    private let observer: (any ViewObserver)?
    private let hidden: Lock<Bitmap>
    /// Saves most lookups the lock.
    private let hidesAny = Atomic<Bool>(false)

    package init(_ tree: Tree, rewriting: Rewriting? = nil, observer: (any ViewObserver)? = nil) {
        self.rewriting = rewriting
        self.observer = observer
        hidden = Lock(Bitmap(count: tree.count))
    }

    /// Hides these directories of the tree, and no others.
    package func hide(_ entries: Bitmap) {
        hidden.withLock { $0 = entries }
        hidesAny.store(entries.population > 0, ordering: .releasing)
    }

    /// Whether the entry itself is hidden; what is in a hidden directory is not, as nobody gets there.
    package func hides(_ entry: Tree.Index) -> Bool {
        guard hidesAny.load(ordering: .acquiring) else { return false }
        return hidden.withLock { $0[Int(entry)] }
    }

    /// The entries of a range that show.
    func shown(_ entries: Range<Tree.Index>) -> some Sequence<Tree.Index> {
        let hidden = hidesAny.load(ordering: .acquiring) ? self.hidden.withLock { $0 } : nil
        return entries.lazy.filter { hidden?[Int($0)] != true }
    }

    func missed(_ name: UnsafeRawBufferPointer, in directory: @autoclosure () -> TreePath) {
        guard let observer, observer.isWatched(name) else { return }
        observer.missed(directory().appending(Array(name)))
    }

    func opened(_ name: UnsafeRawBufferPointer, in directory: @autoclosure () -> TreePath) {
        guard let observer, observer.isWatched(name) else { return }
        observer.opened(directory().appending(Array(name)))
    }

    func verdict(of entry: Tree.Index) -> String { observer?.verdict(of: entry) ?? "any" }
}

/// Hears what is asked of a mount. Called on threads that answer requests: must be quick.
package protocol ViewObserver: AnyObject, Sendable {
    /// Whether it wants to hear of a name.
    func isWatched(_ name: UnsafeRawBufferPointer) -> Bool
    /// A name was looked up that the mount does not have.
    func missed(_ path: TreePath)
    /// A file was opened.
    func opened(_ path: TreePath)
    /// What `user.mcfs.verdict` says.
    func verdict(of entry: Tree.Index) -> String
}
