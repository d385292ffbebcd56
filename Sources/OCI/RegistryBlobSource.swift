internal import MCFSCore
internal import Synchronization
internal import Transport

/// A blob of a registry, by ranges.
///
/// Registries redirect blobs to short-lived signed URLs of a storage. The last one is used for all reads until the storage
/// refuses it; then the registry is asked for another, once per read.
final class RegistryBlobSource: ByteSource {
    private struct Target {
        var location: RegistryLocation
        var tls: TLSOptions
    }

    private let client: RegistryClient
    private let reader: RangeReader
    private let digest: Digest
    private let size: UInt64
    private let target = Lock<Target?>(nil)

    init(_ client: RegistryClient, digest: Digest, size: UInt64) {
        self.client = client
        self.digest = digest
        self.size = size
        reader = RangeReader(client: client.http)
    }

    var name: String { "blob \(digest) of \(client.name)" }
    var origin: String { client.image.host }
    var hasRandomAccess: Bool { true }

    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        guard range.upperBound <= size else {
            throw MCFSError(
                .corrupt, "\(name) has \(size) bytes, but a file in it is said to end at \(range.upperBound)")
        }
        if range.isEmpty { return }
        let passing = PassingSink(sink)
        if let target = target.withLock({ $0 }) {
            if try read(range, from: target, deadline: deadline, into: passing) { return }
        }
        try client.ask(
            .pull, "blobs/\(digest)", "cannot read \(name)", missing: "blob \(digest)", deadline: deadline,
            mayGoOn: { !passing.isTouched }
        ) { host, path, deadline throws(MCFSError) in
            try self.client.exchange(host, path, method: "GET", deadline: deadline) { location in
                self.target.withLock { $0 = Target(location: location, tls: host.tlsElsewhere) }
            } _: { request throws(MCFSError) in
                try self.read(range, request, deadline: deadline, into: passing)
            }
        }
    }

    /// - Returns: false where the storage does not accept the URL any more.
    private func read(
        _ range: ByteRange, from target: Target, deadline: Deadline, into sink: PassingSink
    ) throws(MCFSError) -> Bool {
        let request = HTTPRequest("GET", target.location.description, tls: target.tls)
        do throws(MCFSError) {
            guard case .answered(let response) = try read(range, request, deadline: deadline, into: sink) else {
                return true
            }
            forget(target)
            if (300..<400).contains(response.status) || [400, 401, 403, 404, 410].contains(response.status) {
                return false
            }
            throw client.storageFailure(response, at: target.location)
        } catch {
            // The next try may be sent to another server.
            forget(target)
            throw error
        }
    }

    private func read(
        _ range: ByteRange, _ request: HTTPRequest, deadline: Deadline, into sink: PassingSink
    ) throws(MCFSError) -> Exchange<Void> {
        let expectation = RangeReader.Expectation(
            // Who reads a layer from end to end checks its digest.
            size: size, isVerified: range.count == size)
        switch try reader.read(range, request, expecting: expectation, deadline: deadline, into: sink) {
        case .complete: return .done(())
        case .answered(let response):
            guard response.status != 416 else {
                throw MCFSError(.corrupt, "\(name) is shorter than the \(size) bytes that its manifest says")
            }
            return .answered(response)
        }
    }

    private func forget(_ old: Target) {
        target.withLock { if $0?.location == old.location { $0 = nil } }
    }
}

/// Knows whether anything reached a sink: then no other server can begin anew.
private final class PassingSink: ByteSink {
    private let base: any ByteSink
    private let touched = Atomic(false)

    init(_ base: any ByteSink) { self.base = base }

    var isTouched: Bool { touched.load(ordering: .relaxed) }

    func isFull(whenDrained: @escaping @Sendable () -> Void) -> Bool { base.isFull(whenDrained: whenDrained) }
    var isAbandoned: Bool { base.isAbandoned }

    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        touched.store(true, ordering: .relaxed)
        try base.write(bytes)
    }
}
