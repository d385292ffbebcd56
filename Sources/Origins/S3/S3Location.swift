internal import MCFSCore

/// What `s3://BUCKET[/PREFIX]` names.
struct S3Location: Hashable, Sendable {
    let bucket: String
    /// As it was typed: any bytes of a key, nothing is decoded. Empty: the whole bucket.
    let prefix: String

    /// - Throws: `usage` with what is wrong and an example.
    init(_ reference: String) throws(MCFSError) {
        guard reference.hasPrefix("s3://") else {
            throw MCFSError(.usage, "'\(reference)' is no S3 reference; write s3://BUCKET/PREFIX")
        }
        let rest = reference.dropFirst(5)
        let bucket = rest.prefix { $0 != "/" }
        guard !bucket.isEmpty else {
            throw MCFSError(.usage, "'\(reference)' names no bucket; write s3://BUCKET/PREFIX")
        }
        let isValid = bucket.utf8.allSatisfy {
            switch $0 {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
                true
            default: false
            }
        }
        guard isValid, bucket.utf8.count <= 255, bucket != ".", bucket != ".." else {
            throw MCFSError(
                .usage,
                "'\(bucket)' in '\(reference)' is no bucket name; use letters, digits, '.', '-' and '_' only"
            )
        }
        let prefix = rest.dropFirst(bucket.count + 1)
        guard prefix.utf8.count <= Self.keyBytesMax, !prefix.utf8.contains(0) else {
            throw MCFSError(
                .usage, "the prefix in '\(reference)' cannot be one: keys have at most 1024 bytes and no NUL")
        }
        self.bucket = String(bucket)
        self.prefix = String(prefix)
    }

    /// Longest key that S3 has, in bytes.
    static let keyBytesMax = 1024

    /// What all keys below the location begin with: empty or ending in `/`.
    var folder: String { prefix.isEmpty || prefix.hasSuffix("/") ? prefix : prefix + "/" }

    /// The key of the one object that the location may name instead of a folder.
    var object: String? { prefix.isEmpty || prefix.hasSuffix("/") ? nil : prefix }
}

extension S3Location: CustomStringConvertible {
    var description: String { prefix.isEmpty ? "s3://\(bucket)" : "s3://\(bucket)/\(prefix)" }
}
