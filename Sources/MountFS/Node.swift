internal import Catalog

/// The number of an entry of a mount, as the kernel holds it for as long as it likes. It follows from the resolved tree
/// alone (the entry's index plus one), so whoever serves the same tree later understands the numbers given out before.
///
/// All hard links of a file share the node of the entry that stands for them: the kernel then keeps one inode and one
/// copy of the file's pages.
package struct Node: Hashable, Sendable {
    package let number: UInt64

    package static let root = Node(number: 1)

    package init(number: UInt64) { self.number = number }

    init(entry: Tree.Index) { number = UInt64(entry) + 1 }

    /// nil for a number that no entry of a tree of `count` entries has.
    func entry(count: Int) -> Tree.Index? {
        guard number >= 1, number <= UInt64(count), let entry = Tree.Index(exactly: number - 1) else { return nil }
        return entry
    }
}
