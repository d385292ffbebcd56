internal import Crypto
internal import MCFSCore

/// The objects that a location names, as the file system presents them.
struct S3Contents: Sendable {
    struct File: Sendable {
        var path: TreePath
        var object: S3Object
    }

    /// Made one by one: the paths of a large bucket take more memory than its keys.
    var files: some Collection<File> {
        objects.lazy.compactMap { [skipped] object in
            Self.path(object.key.dropFirst(skipped)).map { File(path: $0, object: object) }
        }
    }

    private let skipped: Int
    /// In the order of their keys.
    private var objects: [S3Object] = []
    /// Folders that have an object of their own: a key that ends in `/`.
    private(set) var folders: [(path: TreePath, modified: Timestamp)] = []
    /// Keys that cannot be presented: components that are empty, `.`, `..`, too long, or not UTF-8; longer than keys can be.
    private(set) var hiddenCount = 0
    /// Keys that are hidden by a folder of the same name.
    private(set) var shadowedCount = 0
    /// Hex SHA-256 over every key and version.
    let version: String

    /// - Parameter folder: what the keys begin with and the names do not: empty or ending in `/`.
    init(_ objects: [S3Object], below folder: String) {
        var last: [[UInt8]: S3Object] = [:]
        for object in objects { last[object.key] = object }
        let sorted = last.values.sorted { $0.key.lexicographicallyPrecedes($1.key) }
        var hash = SHA256()
        for object in sorted {
            // Lengths first, so that no two lists have the same text.
            let version = object.version.map { "\($0.utf8.count):\($0)" }.joined()
            hash.update(data: Array("\(object.key.count):".utf8))
            hash.update(data: object.key)
            hash.update(data: Array(version.utf8))
        }
        version = Array(hash.finalize()).hex
        skipped = folder.utf8.count
        for object in sorted {
            let name = object.key.dropFirst(skipped)
            // The folder's own marker.
            if name.isEmpty { continue }
            let isFolder = name.last == UInt8(ascii: "/")
            guard object.key.count <= S3Location.keyBytesMax, let path = Self.path(isFolder ? name.dropLast() : name)
            else {
                hiddenCount += 1
                continue
            }
            if isFolder { folders.append((path, object.modified)) }
            self.objects.append(object)
        }
        removeShadowed()
    }

    /// Leaves the objects that are files, and not by their names folders of others.
    private mutating func removeShadowed() {
        let slash = UInt8(ascii: "/")
        var files: [S3Object] = []
        for object in objects where object.key.last != slash {
            let folder = object.key + [slash]
            // What lies in the folder comes right where the folder would.
            var (low, high) = (0, objects.count)
            while low < high {
                let middle = low + (high - low) / 2
                if objects[middle].key.lexicographicallyPrecedes(folder) { low = middle + 1 } else { high = middle }
            }
            if low < objects.count, objects[low].key.starts(with: folder) {
                shadowedCount += 1
            } else {
                files.append(object)
            }
        }
        objects = files
    }

    /// The one object that a location names.
    init(file object: S3Object) {
        self.init([object], below: S3Contents.parent(of: object.key))
    }

    private static func parent(of key: [UInt8]) -> String {
        let name = key.lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0
        return String(decoding: key.prefix(name), as: UTF8.self)
    }

    /// nil for what no file can be called. The names are not made fit: two keys must never become one.
    private static func path(_ name: ArraySlice<UInt8>) -> TreePath? {
        guard String(validating: name, as: UTF8.self) != nil else { return nil }
        for component in name.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
            if component.isEmpty || component.elementsEqual(".".utf8) || component.elementsEqual("..".utf8) {
                return nil
            }
        }
        return try? TreePath(name)
    }
}
