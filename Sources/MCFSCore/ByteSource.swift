/// Takes the bytes of one read, in order.
package protocol ByteSink: AnyObject, Sendable {
    /// Called with consecutive pieces, never concurrently, from any thread; must not block: the thread may serve other
    /// reads. The bytes are the callee's only during the call. Throwing ends the read, which then throws this error.
    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError)

    /// Whether the next `write` has to wait because the sink is full. Then `whenDrained` is called once, from any
    /// thread, when it may come. A source asks before each write and waits in its own way; never called concurrently
    /// with `write`. A sink in front of another passes the question on.
    func isFull(whenDrained: @escaping @Sendable () -> Void) -> Bool

    /// Whether nobody wants the bytes any more: a source asks before it tries again. A sink in front of another passes the
    /// question on.
    var isAbandoned: Bool { get }
}

extension ByteSink {
    package func isFull(whenDrained: @escaping @Sendable () -> Void) -> Bool { false }
    package var isAbandoned: Bool { false }

    /// Blocks while the sink is full: for sources that deliver on the thread that asked.
    ///
    /// - Parameter name: what messages call the source.
    /// - Throws: `timedOut` at the deadline.
    package func waitForRoom(until deadline: Deadline, _ name: String) throws(MCFSError) {
        let hasRoom = Guarded(false)
        while isFull(whenDrained: { hasRoom.update { $0 = true } }) {
            let isWoken = hasRoom.wait(until: deadline) { hasRoom in
                defer { hasRoom = false }
                return hasRoom ? true : nil
            }
            guard isWoken != nil else {
                throw MCFSError(.timedOut, "\(name) could not be read in time", isTransient: true)
            }
        }
    }
}

/// An immutable run of bytes at an origin: a layer, an object, a file.
///
/// Thread safe. One that is opened for an old version fails with `changed` rather than give bytes of a newer one.
package protocol ByteSource: AnyObject, Sendable {
    /// What messages and logs call it. Never holds a secret.
    var name: String { get }

    /// What is asked for the bytes: host and port of a server. Sources of the same origin are slow, or do not answer, together.
    /// Empty: this machine.
    var origin: String { get }

    /// Whether any range can be asked for. A source that cannot is read from its first byte to its last, once, filling
    /// whatever is missing on the way.
    var hasRandomAccess: Bool { get }

    /// Whether a read costs no round trip: a file of this machine.
    var isLocal: Bool { get }

    /// How many requests were repeated so far.
    var retryCount: UInt64 { get }

    /// Since when it is read without a byte; nil where nobody reads it.
    var silence: SourceSilence? { get }

    /// Delivers exactly the bytes of `range` to `sink` and returns, on the calling thread, which it may block until
    /// `deadline`.
    ///
    /// Makes one attempt at the bytes (but renews what has expired: tokens, signed URLs); `RetryingSource` repeats it.
    /// - Throws: after any number of bytes were delivered. `isTransient` says whether the rest may come later.
    func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError)
}

extension ByteSource {
    package var isLocal: Bool { false }
    package var origin: String { "" }
    package var retryCount: UInt64 { 0 }
    package var silence: SourceSilence? { nil }
}

/// A wait for an origin.
package struct SourceSilence: Sendable {
    /// When the last byte came, or the first one was asked for.
    package var since: ContinuousClock.Instant
    /// Requests since then.
    package var tries: Int
    /// What became of the last of them that ended.
    package var error: MCFSError?

    package init(since: ContinuousClock.Instant, tries: Int, error: MCFSError?) {
        self.since = since
        self.tries = tries
        self.error = error
    }
}

/// Knows which presented files lie where in a source, so that a range fetched for one fills the others.
package protocol SourceLayout: AnyObject, Sendable {
    /// The files that overlap `range` of the source, in the order of their offsets.
    func contents(overlapping range: ByteRange) -> [Content]
}

/// Takes whole files whose bytes pass by: members of a layer that is streamed, small members seen while its headers
/// are read. Implemented by the chunk cache.
package protocol ContentSink: AnyObject, Sendable {
    /// Begins a file of `size` bytes. `id` nil: the identity is the SHA-256 of what is written.
    func beginContent(id: BlobID?, size: UInt64) throws(MCFSError) -> any ContentWriter
}

/// Takes one file. Dropped without `commit`, it leaves nothing behind. Not thread safe.
package protocol ContentWriter: AnyObject {
    func write(_ bytes: UnsafeRawBufferPointer) throws(MCFSError)
    /// - Returns: the identity. A file that the cache cannot keep (disk full, bound reached) is committed all the same:
    ///   it is then merely not local.
    /// - Throws: `corrupt` where size or digest are not what was announced.
    func commit() throws(MCFSError) -> BlobID
}

/// Says how far long work is. Thread safe.
package protocol ProgressReporter: AnyObject, Sendable {
    /// `total` is nil where it is not known. Bytes.
    func report(phase: String, done: UInt64, total: UInt64?)

    /// Says something that whoever asked for the work should know: one sentence.
    func warn(_ message: String)
}

extension ProgressReporter {
    package func warn(_ message: String) {}
}
