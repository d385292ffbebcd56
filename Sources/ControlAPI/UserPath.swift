internal import Glibc

/// Paths as a user types them.
package enum UserPath {
    /// Absolute, with symbolic links followed as far as that works: the last name of a path may be a dead mountpoint,
    /// which only its name identifies.
    package static func canonical(_ path: String, relativeTo directory: String) -> String {
        let absolute = lexical(path, relativeTo: directory)
        if let real = real(absolute) { return real }
        let cut = absolute.lastIndex(of: "/") ?? absolute.startIndex
        let parent = cut == absolute.startIndex ? "/" : String(absolute[..<cut])
        guard let realParent = real(parent) else { return absolute }
        return (realParent == "/" ? "" : realParent) + absolute[cut...]
    }

    /// Absolute, without `.`, `..`, doubled and trailing slashes; asks the file system nothing.
    package static func lexical(_ path: String, relativeTo directory: String) -> String {
        var components: [Substring] = []
        for component in (path.hasPrefix("/") ? path : directory + "/" + path).split(separator: "/") {
            if component == "." { continue }
            if component == ".." {
                _ = components.popLast()
            } else {
                components.append(component)
            }
        }
        return "/" + components.joined(separator: "/")
    }

    private static func real(_ path: String) -> String? {
        guard let result = realpath(path, nil) else { return nil }
        defer { free(result) }
        return String(cString: result)
    }
}
