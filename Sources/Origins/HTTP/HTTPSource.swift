internal import Crypto
internal import MCFSCore
internal import Synchronization
internal import Transport

/// One version of one file of an HTTP server.
final class HTTPSource: ByteSource {
    let name: String
    let hasRandomAccess: Bool
    var origin: String { start.authority }
    private let fetcher: HTTPFetcher
    private let start: HTTPLocation
    private let size: UInt64
    private let etag: String?
    private let modified: String?
    /// Of the whole, where the server gave nothing else that tells the version.
    private let digest: MCFSCore.Digest?
    /// Where the last read was sent on to: often a signed URL, which ends some day.
    private let place = Lock<HTTPLocation?>(nil)

    /// `start` is where `descriptor`'s URL is read: it may hold a query that is not stored.
    init(_ descriptor: SourceDescriptor, start: HTTPLocation, fetcher: HTTPFetcher) throws(MCFSError) {
        guard let size = descriptor["size"].flatMap({ OutsideNumber.byteCount($0) }) else {
            throw MCFSError(.corrupt, "the stored description of \(start.shown.text) has no size; mount it again")
        }
        self.size = size
        self.start = start
        self.fetcher = fetcher
        name = start.shown.text
        hasRandomAccess = descriptor["ranges"] == nil
        etag = descriptor["etag"]
        modified = descriptor["modified"]
        digest = descriptor["digest"].flatMap { MCFSCore.Digest($0) }
    }

    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        guard range.upperBound <= size else { throw MCFSError(.failed, "\(name) is read beyond its end") }
        if range.isEmpty { return }
        guard let digest, range.count == size else { return try readRange(range, deadline, sink) }
        let hashing = HashingSink(sink)
        try readRange(range, deadline, hashing)
        guard hashing.digest == digest else {
            throw MCFSError(.changed, "\(name) has other content than when it was mounted; mount it again")
        }
    }

    private func readRange(_ range: ByteRange, _ deadline: Deadline, _ sink: any ByteSink) throws(MCFSError) {
        let known = place.withLock { $0 }
        if let answer = try attempt(known ?? start, range, deadline, sink) {
            // What the reference leads to may have been signed for a time only: ask the reference again, once.
            guard known != nil, [401, 403, 404, 410].contains(answer.status) else {
                throw HTTPFetcher.error(answer, start)
            }
            place.withLock { $0 = nil }
            if let answer = try attempt(start, range, deadline, sink) { throw HTTPFetcher.error(answer, start) }
        }
    }

    /// nil: all bytes were delivered.
    private func attempt(
        _ first: HTTPLocation, _ range: ByteRange, _ deadline: Deadline, _ sink: any ByteSink
    ) throws(MCFSError) -> HTTPResponse? {
        let reader = RangeReader(client: fetcher.client)
        let expectation = RangeReader.Expectation(
            size: size, etag: etag, lastModified: modified, isVerified: digest != nil)
        let (answer, last) = try fetcher.follow(first, headers: conditions) { request throws(MCFSError) in
            switch try reader.read(range, request, expecting: expectation, deadline: deadline, into: sink) {
            case .complete: nil
            case .answered(let answer): answer
            }
        }
        if answer == nil { place.withLock { $0 = last == start ? nil : last } }
        return answer
    }

    /// A date is sent as `If-Unmodified-Since`: in `If-Range`, servers take a recent one for weak and send the whole file.
    private var conditions: [(name: String, value: String)] {
        // A weak tag may not stand there; it is compared with that of the answer alone.
        if let etag, etag.hasPrefix("\"") { return [("If-Range", etag)] }
        return modified.map { [("If-Unmodified-Since", $0)] } ?? []
    }
}

/// Hashes what it passes on.
///
/// `@unchecked`: a sink is never called concurrently, and the end of a read comes after its last call.
final class HashingSink: ByteSink, @unchecked Sendable {
    private let base: any ByteSink
    private var hash = SHA256()

    init(_ base: any ByteSink) { self.base = base }

    func isFull(whenDrained: @escaping @Sendable () -> Void) -> Bool { base.isFull(whenDrained: whenDrained) }
    var isAbandoned: Bool { base.isAbandoned }

    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError) {
        hash.update(bufferPointer: bytes)
        try base.write(bytes)
    }

    var digest: MCFSCore.Digest { MCFSCore.Digest(.sha256, hash.finalize()) }
}
