/// A relative path inside a tree: components of any bytes but `/` and NUL, none empty, `.` or `..`.
package struct TreePath: Hashable, Sendable, CustomStringConvertible {
    package var components: [[UInt8]]

    package static let root = TreePath(components: [])

    /// Longest name that Linux lets a directory entry have, in bytes.
    package static let nameBytesMax = 255
    /// Longest path that Linux lets anybody open, in bytes: PATH_MAX without the NUL.
    package static let bytesMax = 4095

    private init(components: [[UInt8]]) { self.components = components }

    /// Leading `/` and `./`, doubled and trailing `/` are dropped.
    ///
    /// - Throws: `corrupt` for `..`, a NUL byte, or a component longer than 255 bytes.
    package init(_ bytes: some Sequence<UInt8>) throws(MCFSError) {
        components = []
        for component in Array(bytes).split(separator: UInt8(ascii: "/")) {
            if component.elementsEqual(".".utf8) { continue }
            let text = String(decoding: component.prefix(300), as: UTF8.self)
            if component.elementsEqual("..".utf8) {
                throw MCFSError(.corrupt, "a name with '..' leads outside of the tree")
            }
            if component.contains(0) { throw MCFSError(.corrupt, "the name '\(text)' holds a NUL byte") }
            if component.count > Self.nameBytesMax {
                throw MCFSError(.corrupt, "the name '\(text)' is longer than \(Self.nameBytesMax) bytes")
            }
            components.append(Array(component))
        }
    }

    package init(_ text: String) throws(MCFSError) { try self.init(Array(text.utf8)) }

    package var isRoot: Bool { components.isEmpty }
    package var name: [UInt8] { components.last ?? [] }
    package var parent: TreePath { TreePath(components: Array(components.dropLast())) }

    package func appending(_ other: TreePath) -> TreePath { TreePath(components: components + other.components) }

    /// The path of an entry of the directory.
    package func appending(_ name: [UInt8]) -> TreePath { TreePath(components: components + [name]) }

    /// The rest of the path below `prefix`; nil where it is not below it.
    package func removing(prefix: TreePath) -> TreePath? {
        guard components.starts(with: prefix.components) else { return nil }
        return TreePath(components: Array(components.dropFirst(prefix.components.count)))
    }

    package var byteCount: Int { components.reduce(max(0, components.count - 1)) { $0 + $1.count } }
    package var bytes: [UInt8] { Array(components.joined(separator: [UInt8(ascii: "/")])) }
    package var description: String { String(decoding: bytes, as: UTF8.self) }
}
