internal import MCFSCore

/// A pattern on paths: `*` and `?` stay within a name, `[a-z]` is a set, `**` spans any number of directories, `\` takes
/// the next character as it is. A pattern without `/` is looked for in the last name, at any depth; one that names a
/// directory means everything below it.
struct Glob: Sendable {
    private let parts: [[UInt8]]

    init(_ pattern: String) {
        var bytes = Array(pattern.utf8)
        let anchored = bytes.first == UInt8(ascii: "/")
        while bytes.first == UInt8(ascii: "/") { bytes.removeFirst() }
        var parts = bytes.split(separator: UInt8(ascii: "/")).map(Array.init)
        if parts.count == 1, !anchored, parts[0] != Self.anyDepth { parts.insert(Self.anyDepth, at: 0) }
        self.parts = parts
    }

    private static let anyDepth = Array("**".utf8)

    func matches(_ path: TreePath) -> Bool {
        // A directory that matches stands for all that is below it.
        let components = path.components
        return (0..<max(components.count, 1)).contains { matches(components.dropLast($0)[...], parts[...]) }
    }

    private func matches(_ path: ArraySlice<[UInt8]>, _ pattern: ArraySlice<[UInt8]>) -> Bool {
        // Two cursors and one place to return to, so that many `**` cost no more than their product.
        var path = path
        var pattern = pattern
        var retry: (path: ArraySlice<[UInt8]>, pattern: ArraySlice<[UInt8]>)?
        while true {
            if let part = pattern.first, part == Self.anyDepth {
                pattern = pattern.dropFirst()
                retry = (path, pattern)
                continue
            }
            if let part = pattern.first, let name = path.first, Self.matches(name[...], part[...]) {
                path = path.dropFirst()
                pattern = pattern.dropFirst()
                continue
            }
            if path.isEmpty && pattern.isEmpty { return true }
            guard var again = retry, !again.path.isEmpty else { return false }
            again.path = again.path.dropFirst()
            retry = again
            (path, pattern) = again
        }
    }

    private static func matches(_ name: ArraySlice<UInt8>, _ pattern: ArraySlice<UInt8>) -> Bool {
        var name = name
        var pattern = pattern
        var retry: (name: ArraySlice<UInt8>, pattern: ArraySlice<UInt8>)?
        while true {
            if pattern.first == UInt8(ascii: "*") {
                pattern = pattern.dropFirst()
                retry = (name, pattern)
                continue
            }
            if let byte = name.first, let rest = Self.step(byte, pattern) {
                name = name.dropFirst()
                pattern = rest
                continue
            }
            if name.isEmpty && pattern.isEmpty { return true }
            guard var again = retry, !again.name.isEmpty else { return false }
            again.name = again.name.dropFirst()
            retry = again
            (name, pattern) = again
        }
    }

    /// The pattern after one byte; nil where the byte does not fit.
    private static func step(_ byte: UInt8, _ pattern: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        guard let first = pattern.first else { return nil }
        let rest = pattern.dropFirst()
        switch first {
        case UInt8(ascii: "?"): return rest
        case UInt8(ascii: "\\") where !rest.isEmpty: return rest.first == byte ? rest.dropFirst() : nil
        case UInt8(ascii: "["):
            // The first byte after `[` or `[!` may be `]` itself.
            var set = rest
            let negated = set.first == UInt8(ascii: "!") || set.first == UInt8(ascii: "^")
            if negated { set = set.dropFirst() }
            guard let close = set.dropFirst().firstIndex(of: UInt8(ascii: "]")) else {
                return first == byte ? rest : nil
            }
            return contains(byte, set[..<close]) != negated ? set[(close + 1)...] : nil
        default: return first == byte ? rest : nil
        }
    }

    private static func contains(_ byte: UInt8, _ set: ArraySlice<UInt8>) -> Bool {
        var set = set
        while let low = set.popFirst() {
            if set.count >= 2, set.first == UInt8(ascii: "-") {
                let high = set[set.startIndex + 1]
                set = set.dropFirst(2)
                if low <= byte && byte <= high { return true }
            } else if low == byte {
                return true
            }
        }
        return false
    }
}

/// Which files of a tree a request means.
struct PathFilter: Sendable {
    private let include: [Glob]
    private let exclude: [Glob]

    /// Nothing to include means everything.
    init(include: [String], exclude: [String]) {
        self.include = include.map(Glob.init)
        self.exclude = exclude.map(Glob.init)
    }

    func contains(_ path: TreePath) -> Bool {
        (include.isEmpty || include.contains { $0.matches(path) }) && !exclude.contains { $0.matches(path) }
    }
}
