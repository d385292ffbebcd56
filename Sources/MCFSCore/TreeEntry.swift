/// Seconds and nanoseconds since 1970.
package struct Timestamp: Hashable, Sendable {
    package var seconds: Int64
    package var nanoseconds: UInt32

    package init(seconds: Int64, nanoseconds: UInt32 = 0) {
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }
}

/// Which bytes a presented file has and where they come from.
package struct Content: Hashable, Sendable {
    package var id: BlobID
    /// Bytes.
    package var size: UInt64
    /// Index into the tree's sources.
    package var source: Int
    /// Where the file's first byte lies in the source, in bytes.
    package var offset: UInt64

    package init(id: BlobID, size: UInt64, source: Int, offset: UInt64) {
        self.id = id
        self.size = size
        self.source = source
        self.offset = offset
    }
}

/// One entry of a tree or a layer, as origins and layer readers hand it over.
package struct TreeEntry: Hashable, Sendable {
    package enum Kind: Hashable, Sendable {
        case directory
        case file(Content)
        case symlink(target: [UInt8])
        /// Another name of the file at a path of the same tree, or of a layer below.
        case hardLink(TreePath)
        case fifo
        case characterDevice(major: UInt32, minor: UInt32)
        case blockDevice(major: UInt32, minor: UInt32)
        /// Layers only: hides what layers below have at this path.
        case whiteout
        /// Layers only: hides what layers below have in this directory, given by its own path.
        case opaque
    }

    package var path: TreePath
    package var kind: Kind
    /// Permission, set-id and sticky bits (07777).
    package var permissions: UInt16
    package var uid: UInt32
    package var gid: UInt32
    /// Clamped.
    package var modified: Timestamp

    package init(
        _ path: TreePath, _ kind: Kind, permissions: UInt16, uid: UInt32 = 0, gid: UInt32 = 0,
        modified: Timestamp = Timestamp(seconds: 0)
    ) {
        self.path = path
        self.kind = kind
        self.permissions = permissions & 0o7777
        self.uid = uid
        self.gid = gid
        self.modified = modified.clamped
    }
}

/// What an origin needs to make a `ByteSource` again after a restart: a layer's digest and media type, an object's
/// key and ETag. Stored with the tree. Never holds a credential or a signed URL.
package struct SourceDescriptor: Hashable, Sendable, Codable {
    package var properties: [String: String]

    package init(_ properties: [String: String]) { self.properties = properties }

    package subscript(key: String) -> String? { properties[key] }
}
