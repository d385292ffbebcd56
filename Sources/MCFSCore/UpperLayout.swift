/// How an upper lies on the disk, for who comes upon one.
package enum UpperLayout {
    /// The directory at its root that remembers what was done to the tree below; shown in no mount.
    package static let hiddenName = Array(".mcfs-upper".utf8)
}
