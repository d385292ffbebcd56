internal import MCFSCore
internal import Synchronization
internal import Transport

/// One object at the version that was listed.
final class S3ObjectSource: ByteSource {
    private let client: S3Client
    private let object: S3Object
    /// The `Accept-Encoding` that brings the bytes as they are stored.
    private let encoding = Lock("identity")
    let name: String

    init(_ object: S3Object, client: S3Client) {
        self.object = object
        self.client = client
        name = "s3://\(client.bucket)/\(String(decoding: object.key, as: UTF8.self))"
    }

    /// The bucket's endpoint.
    var origin: String {
        HTTPRequest("GET", client.configuration.url(bucket: client.bucket, key: nil, region: client.region)).endpoint
    }
    var hasRandomAccess: Bool { true }

    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        // A range of an empty object is an error to S3.
        if range.isEmpty { return }
        let accepted = encoding.withLock { $0 }
        guard
            let stored = try client.read(object, range, accepting: accepted, deadline: deadline, into: sink)
        else { return }
        encoding.withLock { $0 = stored }
        if stored != accepted,
            try client.read(object, range, accepting: stored, deadline: deadline, into: sink) == nil
        {
            return
        }
        throw MCFSError(
            .originUnavailable,
            "\(name) is stored with Content-Encoding '\(stored.prefix(40))', and the server sends it in no other way than decoded; store it without"
        )
    }
}

extension S3ObjectSource {
    /// What a tree keeps of an object.
    static func descriptor(of object: S3Object, client: S3Client) -> SourceDescriptor {
        SourceDescriptor([
            "kind": "s3", "bucket": client.bucket, "key": String(decoding: object.key, as: UTF8.self),
            "etag": object.etag, "modified": object.modifiedText,
            "size": String(object.size), "endpoint": client.configuration.endpointIdentity, "region": client.region,
        ])
    }

    /// - Throws: `corrupt` where it is none of ours.
    static func object(of descriptor: SourceDescriptor) throws(MCFSError) -> S3Object {
        guard descriptor["kind"] == "s3", let key = descriptor["key"], let etag = descriptor["etag"],
            let size = descriptor["size"].flatMap({ OutsideNumber.byteCount($0) })
        else {
            throw MCFSError(.corrupt, "the stored tree names a source that is no S3 object; mount the reference again")
        }
        let time = descriptor["modified"]?.split(separator: ".") ?? ["0", "0"]
        guard time.count == 2, let seconds = Int64(time[0]), let nanoseconds = UInt32(time[1]) else {
            throw MCFSError(
                .corrupt, "the stored tree names an S3 object with no valid time; mount the reference again")
        }
        return S3Object(
            key: Array(key.utf8), etag: etag, size: size,
            modified: Timestamp(seconds: seconds, nanoseconds: nanoseconds).clamped)
    }
}
