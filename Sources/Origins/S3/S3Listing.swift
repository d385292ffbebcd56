internal import MCFSCore
internal import Transport

/// One object as a listing shows it.
struct S3Object: Hashable, Sendable {
    /// UTF-8 where the server follows the rules. Compared as bytes: Swift's strings would take two normalisation forms
    /// of one name for the same key.
    var key: [UInt8]
    /// With its quotes; empty where the server has none.
    var etag: String
    /// Bytes.
    var size: UInt64
    /// 1970 where the server tells none.
    var modified: Timestamp

    /// Everything that tells this version of an object from any other one under its key: some servers have no ETags, and
    /// some give the same one to whatever is stored.
    var version: [String] { [etag, "\(size)", modifiedText] }

    /// What it takes in memory until the tree is made, roughly.
    var memoryBytes: Int { 160 + key.count + etag.utf8.count }

    var modifiedText: String { "\(modified.seconds).\(modified.nanoseconds)" }

    /// Seconds since 1970 that `Last-Modified` may say; some servers round up. nil where the listing had no time.
    var modifiedSeconds: ClosedRange<Int64>? {
        guard modified != Timestamp(seconds: 0) else { return nil }
        return modified.seconds...modified.seconds + (modified.nanoseconds > 0 ? 1 : 0)
    }
}

/// One page of `ListObjectsV2`.
struct S3Page: Sendable {
    var objects: [S3Object]
    /// nil on the last page.
    var nextToken: String?

    /// Format: `ListBucketResult` of the Amazon S3 API reference; clones leave out the namespace.
    /// - Throws: `corrupt` where it is anything else or lacks what is needed.
    init(_ body: [UInt8]) throws(MCFSError) {
        let root = try XMLNode.parse(body)
        guard root.name == "ListBucketResult" else {
            throw MCFSError(.corrupt, "the server answered '\(root.name.prefix(40))' where a listing was expected")
        }
        let isEncoded = root["EncodingType"]?.lowercased() == "url"
        objects = []
        for node in root.children where node.name == "Contents" {
            guard let key = node["Key"], let text = node["Size"],
                let size = try OutsideNumber.byteCount(text, of: "the object '\(MCFSError.shown(key.utf8))'")
            else {
                throw MCFSError(.corrupt, "the listing has an object without a key or a size")
            }
            objects.append(
                S3Object(
                    key: isEncoded ? Self.formDecoded(key) : Array(key.utf8), etag: Self.quoted(node["ETag"] ?? ""),
                    size: size,
                    modified: node["LastModified"].flatMap { S3Time.timestamp(rfc3339: $0) } ?? Timestamp(seconds: 0)))
        }
        guard root["IsTruncated"]?.lowercased() == "true" else { return }
        guard let token = root["NextContinuationToken"], !token.isEmpty else {
            throw MCFSError(
                .corrupt, "the listing says that it goes on but not where; the server does not speak ListObjectsV2")
        }
        nextToken = token
    }

    /// Names come as in a form: `+` stands for a space.
    static func formDecoded(_ text: String) -> [UInt8] {
        AWSSigner.decoded(text.utf8.map { $0 == UInt8(ascii: "+") ? UInt8(ascii: " ") : $0 })
    }

    /// Some servers leave the quotes out of listings; `If-Match` and `ETag` have them.
    private static func quoted(_ etag: String) -> String {
        if etag.isEmpty || etag == "\"\"" { return "" }
        return etag.hasSuffix("\"") ? etag : "\"\(etag)\""
    }
}
